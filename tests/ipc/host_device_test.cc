// The host device, and the kernel's word that an arena is gone.
//
// Owners and importers are processes of their own: this program, run again
// with a role and a control socket as descriptor 3 (see main()).
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/control_socket.h"
#include "ipc/device.h"
#include "ipc/mapping_holders.h"
#include "ipc/poll_fd.h"
#include "ipc/process.h"

namespace baton::ipc {
namespace {

using Verdict = ArenaWitness::Verdict;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr absl::Duration kSoon = absl::Seconds(60);
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kArenaBytes = 8 * kMiB;
constexpr uint64_t kGeneration = 7;

std::vector<std::byte> Pattern(size_t bytes) {
  std::vector<std::byte> pattern(bytes);
  for (size_t i = 0; i < bytes; ++i) pattern[i] = static_cast<std::byte>(i * 131 >> 3);
  return pattern;
}

bool HoldsPattern(std::span<const std::byte> bytes) {
  const std::vector<std::byte> pattern = Pattern(kArenaBytes);
  return bytes.size() == kArenaBytes && std::equal(bytes.begin(), bytes.end(), pattern.begin());
}

size_t OpenDescriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
}

// The lines of /proc/self/smaps about mappings of arenas.
std::string ArenaMappings() {
  std::ifstream smaps("/proc/self/smaps");
  std::string found;
  bool inside = false;
  for (std::string line; std::getline(smaps, line);) {
    if (line.find('-') < line.find(' ')) inside = line.find("baton-device-g") != std::string::npos;
    if (inside) absl::StrAppend(&found, line, "\n");
  }
  return found;
}

// A process of the test, and the socket to it.
struct Actor {
  explicit Actor(const std::string& role) {
    auto pair = ControlSocket::MakePair();
    if (!pair.ok()) std::abort();
    auto child = SpawnProcess(
        {.executable = "/proc/self/exe", .args = {role}, .fds = {{pair->second.get(), 3}}});
    if (!child.ok()) std::abort();
    process = *std::move(child);
    socket = std::move(pair->first);
  }
  void KillAndReap() {
    ASSERT_TRUE(process.Kill(SIGKILL).ok());
    ASSERT_TRUE(process.Reap(kSoon).ok());
  }
  ControlSocket socket;
  ChildProcess process;
};

void FillExport(const ArenaExport& arena, schema::ArenaExport::Builder to) {
  to.setBytes(arena.bytes);
  to.setGeneration(arena.generation);
}

ArenaExport ReadExport(ControlMessage& message, schema::ArenaExport::Reader from) {
  return {.fd = message.TakeFd(0),
          .token = {},
          .bytes = from.getBytes(),
          .generation = from.getGeneration()};
}

ArenaExport Duplicate(const ArenaExport& arena) {
  return {.fd = UniqueFd(::fcntl(arena.fd.get(), F_DUPFD_CLOEXEC, 0)),
          .token = {},
          .bytes = arena.bytes,
          .generation = arena.generation};
}

// The supervisor's part: takes what a new owner exports.
ArenaExport ExportOf(Actor& owner) {
  auto message = owner.socket.Receive(kSoon);
  if (!message.ok() || !message->envelope().isReady()) return {};
  return ReadExport(*message, message->envelope().getReady());
}

// Has an importer map the arena; true once it has, and read what it should.
bool Import(Actor& importer, const ArenaExport& arena) {
  capnp::MallocMessageBuilder message;
  FillExport(arena, message.initRoot<schema::Envelope>().initImportArena());
  const std::array<int, 1> fds = {arena.fd.get()};
  if (!importer.socket.Send(message, fds).ok()) return false;
  auto answer = importer.socket.Receive(kSoon);
  return answer.ok() && answer->envelope().isImported() &&
         answer->envelope().getImported().getError().getCode() == 0;
}

bool CloseImport(Actor& importer) {
  capnp::MallocMessageBuilder message;
  message.initRoot<schema::Envelope>().initCloseImports().setGeneration(kGeneration);
  if (!importer.socket.Send(message).ok()) return false;
  auto answer = importer.socket.Receive(kSoon);
  return answer.ok() && answer->envelope().isImportsClosed();
}

std::unique_ptr<ArenaWitness> Witness(const ArenaExport& arena) {
  auto witness = WitnessHostArena(Duplicate(arena));
  EXPECT_TRUE(witness.ok()) << witness.status();
  return witness.ok() ? *std::move(witness) : nullptr;
}

TEST(HostDevice, ArenasAreZeroedWritableAndLimited) {
  const std::unique_ptr<Device> device = CreateHostDevice(10 * kMiB);
  EXPECT_EQ(device->name(), "host");
  auto arena = device->CreateArena(8 * kMiB, 1);
  ASSERT_TRUE(arena.ok()) << arena.status();
  EXPECT_EQ((*arena)->bytes(), 8 * kMiB);
  auto* data = reinterpret_cast<std::byte*>((*arena)->address());
  EXPECT_EQ(std::count(data, data + 8 * kMiB, std::byte{0}), static_cast<long>(8 * kMiB));
  data[8 * kMiB - 1] = std::byte{1};

  // The capacity is for all arenas together.
  const absl::Status status = device->CreateArena(3 * kMiB, 2).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat(2 * kMiB, " of the ")));
  EXPECT_TRUE(device->CreateArena(2 * kMiB, 2).ok());
  arena->reset();
  EXPECT_TRUE(device->CreateArena(10 * kMiB, 3).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(device->CreateArena(0, 1).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(device->CreateArena(UINT64_MAX, 1).status()));
}

// More than the machine has is an error, not a visit of the OOM killer.
TEST(HostDevice, MoreThanTheMachineHasIsRefused) {
  const std::unique_ptr<Device> device = CreateHostDevice(UINT64_MAX);
  const absl::Status status = device->CreateArena(uint64_t{1} << 45, 1).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
}

TEST(HostDevice, ReservesItsPagesAtOnce) {
  const std::unique_ptr<Device> device = CreateHostDevice(kArenaBytes);
  auto arena = device->CreateArena(kArenaBytes, 1);
  ASSERT_TRUE(arena.ok()) << arena.status();
  auto exported = (*arena)->Export();
  ASSERT_TRUE(exported.ok()) << exported.status();
  EXPECT_EQ(*Witness(*exported)->BytesInUse(), kArenaBytes);
}

TEST(HostDevice, CopiesOnlyIntoItsArenas) {
  const std::unique_ptr<Device> device = CreateHostDevice(kMiB);
  auto arena = device->CreateArena(10000, 1);
  ASSERT_TRUE(arena.ok()) << arena.status();
  const uint64_t address = (*arena)->address();
  const std::vector<std::byte> bytes = Pattern(100);
  ASSERT_TRUE(device->CopyToDevice(address + 9900, bytes).ok());
  EXPECT_EQ(std::memcmp(reinterpret_cast<void*>(address + 9900), bytes.data(), 100), 0);
  EXPECT_TRUE(device->CopyToDevice(address + 10000, {}).ok());
  for (const uint64_t bad :
       {address + 9901, address - 1, address + 10001, uint64_t{0}, uint64_t{UINT64_MAX - 10}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(device->CopyToDevice(bad, bytes))) << bad;
  }
  arena->reset();
  EXPECT_TRUE(absl::IsInvalidArgument(device->CopyToDevice(address, bytes)));
}

// Large copies go through the file, small ones through the mapping: both see the same bytes.
TEST(HostDevice, LargeCopiesAreSeenByOwnerAndImporterAndTouchNothingElse) {
  const std::unique_ptr<Device> device = CreateHostDevice(64 * kMiB);
  auto before = device->CreateArena(kMiB, 1);
  auto arena = device->CreateArena(16 * kMiB, 1);
  ASSERT_TRUE(before.ok() && arena.ok());
  auto exported = (*arena)->Export();
  ASSERT_TRUE(exported.ok());
  auto imported = ImportHostArena(*std::move(exported));
  ASSERT_TRUE(imported.ok()) << imported.status();
  const uint64_t address = (*arena)->address();
  const std::vector<std::byte> bytes = Pattern(10 * kMiB + 4097);
  ASSERT_TRUE(device->CopyToDevice(address + 333, bytes).ok());
  const std::vector<std::byte> small = Pattern(4096);
  ASSERT_TRUE(device->CopyToDevice(address + 333 + kMiB, small).ok());
  std::vector<std::byte> expected(16 * kMiB);
  std::copy(bytes.begin(), bytes.end(), expected.begin() + 333);
  std::copy(small.begin(), small.end(), expected.begin() + 333 + kMiB);
  EXPECT_EQ(std::memcmp(reinterpret_cast<void*>(address), expected.data(), expected.size()), 0);
  EXPECT_EQ(std::memcmp((*imported)->bytes().data(), expected.data(), expected.size()), 0);
  EXPECT_TRUE(absl::IsInvalidArgument(device->CopyToDevice(address + 6 * kMiB, bytes)));
}

TEST(HostDevice, ImportsAreReadOnlyNotInheritedAndKeepNoDescriptor) {
  const std::unique_ptr<Device> device = CreateHostDevice(kArenaBytes);
  auto arena = device->CreateArena(kArenaBytes, kGeneration);
  ASSERT_TRUE(arena.ok()) << arena.status();
  ASSERT_TRUE(device->CopyToDevice((*arena)->address(), Pattern(kArenaBytes)).ok());
  const size_t before = OpenDescriptors();
  auto exported = (*arena)->Export();
  ASSERT_TRUE(exported.ok()) << exported.status();
  EXPECT_NE(::fcntl(exported->fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  auto imported = ImportHostArena(*std::move(exported));
  ASSERT_TRUE(imported.ok()) << imported.status();
  EXPECT_EQ(OpenDescriptors(), before);
  EXPECT_EQ((*imported)->generation(), kGeneration);
  EXPECT_TRUE(HoldsPattern((*imported)->bytes()));

  const std::string mappings = ArenaMappings();
  EXPECT_THAT(mappings, HasSubstr(" r--s "));  // the import
  EXPECT_THAT(mappings, HasSubstr(" rw-s "));  // the owner
  EXPECT_THAT(mappings, HasSubstr("(deleted)"));
  // R12: "dc" is the kernel's word for MADV_DONTFORK, once for each.
  size_t not_inherited = 0;
  std::istringstream lines(mappings);
  for (std::string line; std::getline(lines, line);) {
    not_inherited += static_cast<size_t>(line.rfind("VmFlags:", 0) == 0 &&
                                         line.find(" dc") != std::string::npos);
  }
  EXPECT_EQ(not_inherited, 2u) << mappings;
}

TEST(HostDevice, AnImporterWritesWhereItWasAllowedToAndNowhereElse) {
  const std::unique_ptr<Device> device = CreateHostDevice(4 * kMiB);
  auto arena = device->CreateArena(kMiB, kGeneration);
  ASSERT_TRUE(arena.ok()) << arena.status();
  auto imported = ImportHostArena(*(*arena)->Export());
  ASSERT_TRUE(imported.ok()) << imported.status();
  ASSERT_TRUE((*imported)->AllowWrites(8192, 4096).ok());
  const std::vector<std::byte> bytes = Pattern(4096);
  ASSERT_TRUE((*imported)->CopyIn(8192, bytes).ok());
  const auto* const owner = reinterpret_cast<const std::byte*>((*arena)->address());
  EXPECT_EQ(std::memcmp(owner + 8192, bytes.data(), bytes.size()), 0);
  const std::span<std::byte> writable = (*imported)->Writable(8192 + 128, 256);
  ASSERT_EQ(writable.size(), 256u);
  EXPECT_EQ(writable.data(), (*imported)->bytes().data() + 8192 + 128);
  writable[0] = std::byte{99};
  EXPECT_EQ(owner[8192 + 128], std::byte{99});
  std::vector<std::byte> back(100);
  ASSERT_TRUE((*imported)->CopyOut(back, 8192 + 128).ok());
  EXPECT_EQ(back[0], std::byte{99});
  // The one page, between two parts of the import that stay as they were.
  const auto start = reinterpret_cast<uint64_t>((*imported)->bytes().data());
  const auto mapping = [](uint64_t from, uint64_t to, const char* access) {
    std::ostringstream line;
    line << std::hex << from << '-' << to << ' ' << access;
    return line.str();
  };
  const std::string mappings = ArenaMappings();
  EXPECT_THAT(mappings, HasSubstr(mapping(start, start + 8192, "r--s")));
  EXPECT_THAT(mappings, HasSubstr(mapping(start + 8192, start + 12288, "rw-s")));
  EXPECT_THAT(mappings, HasSubstr(mapping(start + 12288, start + kMiB, "r--s")));

  EXPECT_TRUE(absl::IsInvalidArgument((*imported)->AllowWrites(kMiB - 4096, 8192)));
  EXPECT_TRUE(absl::IsInvalidArgument((*imported)->CopyIn(kMiB - 4095, bytes)));
  EXPECT_TRUE(absl::IsInvalidArgument((*imported)->CopyOut(back, ~uint64_t{0})));
  EXPECT_TRUE((*imported)->Writable(kMiB, 1).empty());
}

TEST(HostDevice, RefusesExportsThatCouldNotBeConfirmed) {
  const std::unique_ptr<Device> device = CreateHostDevice(kArenaBytes);
  auto arena = device->CreateArena(kArenaBytes, 1);
  ASSERT_TRUE(arena.ok()) << arena.status();
  const auto refused = [](ArenaExport exported) {
    return absl::IsInvalidArgument(WitnessHostArena(Duplicate(exported)).status()) &&
           absl::IsInvalidArgument(ImportHostArena(std::move(exported)).status());
  };
  ArenaExport larger = *(*arena)->Export();
  larger.bytes += 4096;
  EXPECT_TRUE(refused(std::move(larger)));
  ArenaExport empty = *(*arena)->Export();
  empty.bytes = 0;
  EXPECT_TRUE(refused(std::move(empty)));
  EXPECT_TRUE(refused({.fd = UniqueFd(), .token = {}, .bytes = 4096, .generation = 1}));
  ArenaExport read_only = *(*arena)->Export();
  read_only.fd.reset(
      ::open(absl::StrCat("/proc/self/fd/", read_only.fd.get()).c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_TRUE(refused(std::move(read_only)));
  // A file whose mappings the kernel would not count.
  ArenaExport unsealed{.fd = UniqueFd(::memfd_create("x", MFD_CLOEXEC)),
                       .token = {},
                       .bytes = 4096,
                       .generation = 1};
  ASSERT_EQ(::ftruncate(unsealed.fd.get(), 4096), 0);
  EXPECT_TRUE(refused(std::move(unsealed)));
  ArenaExport sealed = *(*arena)->Export();
  ASSERT_EQ(::fcntl(sealed.fd.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
  EXPECT_TRUE(refused(std::move(sealed)));
}

// A20, A21: the memory of a dead owner is seen to be there as long as an
// importer maps it, and who that is; and seen to be gone as soon as it is.
TEST(ArenaWitness, A20_A21_SeesAnImportThatOutlivesItsOwner) {
  Actor owner("--owner");
  const ArenaExport arena = ExportOf(owner);
  ASSERT_EQ(arena.bytes, kArenaBytes);
  const std::unique_ptr<ArenaWitness> witness = Witness(arena);
  ASSERT_NE(witness, nullptr);
  EXPECT_THAT(ArenaMappings(), IsEmpty());  // the supervisor maps nothing
  Actor importer("--importer");
  ASSERT_TRUE(Import(importer, arena));
  EXPECT_THAT(witness->Holders(),
              testing::UnorderedElementsAre(owner.process.pid(), importer.process.pid()));
  owner.KillAndReap();

  EXPECT_EQ(witness->Confirm(), Verdict::kStillMapped);
  EXPECT_EQ(*witness->BytesInUse(), kArenaBytes);
  EXPECT_THAT(witness->Holders(), ElementsAre(importer.process.pid()));
  EXPECT_EQ(witness->Confirm(), Verdict::kStillMapped);  // asking changes nothing

  ASSERT_TRUE(CloseImport(importer));  // it checks that it could read to the end
  EXPECT_EQ(witness->Confirm(), Verdict::kFreed);
  EXPECT_EQ(*witness->BytesInUse(), 0u);
  EXPECT_THAT(witness->Holders(), IsEmpty());
  EXPECT_EQ(witness->Confirm(), Verdict::kFreed);
  EXPECT_EQ(witness->source(), "F_SEAL_WRITE + st_blocks");
}

TEST(ArenaWitness, A20_AKilledImporterHoldsNothing) {
  Actor owner("--owner");
  const ArenaExport arena = ExportOf(owner);
  const std::unique_ptr<ArenaWitness> witness = Witness(arena);
  ASSERT_NE(witness, nullptr);
  Actor importer("--importer");
  ASSERT_TRUE(Import(importer, arena));
  owner.KillAndReap();
  ASSERT_EQ(witness->Confirm(), Verdict::kStillMapped);
  importer.KillAndReap();
  EXPECT_EQ(witness->Confirm(), Verdict::kFreed);
}

TEST(ArenaWitness, ALivingOwnerIsStillMapped) {
  Actor owner("--owner");
  const ArenaExport arena = ExportOf(owner);
  const std::unique_ptr<ArenaWitness> witness = Witness(arena);
  ASSERT_NE(witness, nullptr);
  EXPECT_EQ(witness->Confirm(), Verdict::kStillMapped);
  EXPECT_THAT(witness->Holders(), ElementsAre(owner.process.pid()));
}

// R12: children that the user's process or the model has forked, and that live
// on, delay no confirmation.
TEST(ArenaWitness, R12_ForkedChildrenPinNothing) {
  Actor owner("--forking-owner");
  const ArenaExport arena = ExportOf(owner);
  const std::unique_ptr<ArenaWitness> witness = Witness(arena);
  ASSERT_NE(witness, nullptr);
  Actor importer("--forking-importer");
  ASSERT_TRUE(Import(importer, arena));
  owner.KillAndReap();
  ASSERT_EQ(witness->Confirm(), Verdict::kStillMapped);
  importer.KillAndReap();
  EXPECT_EQ(witness->Confirm(), Verdict::kFreed);
  // The children were alive all the time: they hold the sockets' other ends.
  EXPECT_TRUE(absl::IsDeadlineExceeded(owner.socket.Receive(absl::ZeroDuration()).status()));
  EXPECT_TRUE(absl::IsDeadlineExceeded(importer.socket.Receive(absl::ZeroDuration()).status()));
}

// A stray descriptor, without a mapping, keeps no memory and gets none back.
TEST(ArenaWitness, StrayDescriptorsKeepNoMemory) {
  Actor owner("--owner");
  const ArenaExport stray = ExportOf(owner);
  const std::unique_ptr<ArenaWitness> witness = Witness(stray);
  ASSERT_NE(witness, nullptr);
  owner.KillAndReap();
  ASSERT_EQ(witness->Confirm(), Verdict::kFreed);
  struct stat info;
  ASSERT_EQ(::fstat(stray.fd.get(), &info), 0);
  EXPECT_EQ(info.st_blocks, 0);
  EXPECT_NE(::ftruncate(stray.fd.get(), kArenaBytes), 0);
  EXPECT_LT(::pwrite(stray.fd.get(), "x", 1, 0), 0);
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, stray.fd.get(), 0),
            MAP_FAILED);
  EXPECT_FALSE(ImportHostArena(Duplicate(stray)).ok());
}

// Not the kernel's way to count: a mapping that it leaves out loses its pages.
TEST(ArenaWitness, MappingsThroughReadOnlyDescriptorsKeepNoMemory) {
  Actor owner("--owner");
  const ArenaExport arena = ExportOf(owner);
  const std::unique_ptr<ArenaWitness> witness = Witness(arena);
  ASSERT_NE(witness, nullptr);
  const UniqueFd read_only(
      ::open(absl::StrCat("/proc/self/fd/", arena.fd.get()).c_str(), O_RDONLY | O_CLOEXEC));
  void* mapping = ::mmap(nullptr, kArenaBytes, PROT_READ, MAP_SHARED, read_only.get(), 0);
  ASSERT_NE(mapping, MAP_FAILED);
  owner.KillAndReap();
  EXPECT_EQ(witness->Confirm(), Verdict::kFreed);
  struct stat info;
  ASSERT_EQ(::fstat(arena.fd.get(), &info), 0);
  EXPECT_EQ(info.st_blocks, 0);
  ::munmap(mapping, kArenaBytes);
}

// A27: where the kernel cannot be asked, the verdict is that nobody knows.
TEST(ArenaWitness, A27_NotBeingAbleToAskIsNotFreed) {
  for (const int seal : {F_SEAL_WRITE, F_SEAL_SEAL, F_SEAL_SHRINK}) {
    Actor owner("--owner");
    const ArenaExport arena = ExportOf(owner);
    const std::unique_ptr<ArenaWitness> witness = Witness(arena);
    ASSERT_NE(witness, nullptr);
    owner.KillAndReap();
    ASSERT_EQ(::fcntl(arena.fd.get(), F_ADD_SEALS, seal), 0);
    EXPECT_EQ(witness->Confirm(), Verdict::kUnknown) << seal;
    EXPECT_EQ(witness->Confirm(), Verdict::kUnknown) << seal;
    EXPECT_EQ(*witness->BytesInUse(), kArenaBytes) << seal;
  }
}

// A witness that died over its question leaves its seal, before or after it took the pages.
TEST(ArenaWitness, A27_TheSealOfAWitnessThatDiedIsGoneOnFrom) {
  for (const bool emptied : {false, true}) {
    Actor owner("--owner");
    const ArenaExport arena = ExportOf(owner);
    const std::unique_ptr<ArenaWitness> counts = Witness(arena);
    owner.KillAndReap();
    if (emptied) {
      EXPECT_EQ(Witness(arena)->Confirm(), Verdict::kFreed);
      EXPECT_FALSE(WitnessHostArena(Duplicate(arena)).ok()) << "nobody was asked before";
    } else {
      ASSERT_EQ(::fcntl(arena.fd.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
    }
    auto next = WitnessHostArena(Duplicate(arena), /*asked_before=*/true);
    ASSERT_TRUE(next.ok()) << next.status();
    EXPECT_EQ((*next)->Confirm(), Verdict::kFreed);
    EXPECT_EQ(*counts->BytesInUse(), 0u);
  }
}

// Nor does having been asked before make a mapping go away.
TEST(ArenaWitness, A27_AskedBeforeAndStillMappedIsStillMapped) {
  Actor owner("--owner");
  const ArenaExport arena = ExportOf(owner);
  auto next = WitnessHostArena(Duplicate(arena), /*asked_before=*/true);
  ASSERT_TRUE(next.ok()) << next.status();
  EXPECT_EQ((*next)->Confirm(), Verdict::kStillMapped);
}

TEST(MappingHolders, NamesThoseThatMapTheFile) {
  const UniqueFd file(::memfd_create("x", MFD_CLOEXEC));
  const UniqueFd other(::memfd_create("x", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 4096), 0);
  EXPECT_THAT(FindMappingHolders(file.get()), IsEmpty());
  void* mapping = ::mmap(nullptr, 4096, PROT_READ, MAP_SHARED, file.get(), 0);
  ASSERT_NE(mapping, MAP_FAILED);
  EXPECT_THAT(FindMappingHolders(file.get()), ElementsAre(::getpid()));
  EXPECT_THAT(FindMappingHolders(other.get()), IsEmpty());
  EXPECT_THAT(FindMappingHolders(-1), IsEmpty());
  ::munmap(mapping, 4096);
}

// A child that lives until the test lets go of the socket, with every
// descriptor open that was open here.
void ForkASleeper() {
  const pid_t pid = ::fork();
  if (pid < 0) ::_exit(1);
  if (pid > 0) return;
  PollFd(3, POLLIN, kSoon);
  ::_exit(0);
}

int OwnerRole(bool forks) {
  ControlSocket supervisor{UniqueFd(3)};
  const std::unique_ptr<Device> device = CreateHostDevice(kArenaBytes);
  auto arena = device->CreateArena(kArenaBytes, kGeneration);
  if (!arena.ok()) return 1;
  if (!device->CopyToDevice((*arena)->address(), Pattern(kArenaBytes)).ok()) return 2;
  if (forks) ForkASleeper();
  auto exported = (*arena)->Export();
  if (!exported.ok()) return 3;
  capnp::MallocMessageBuilder message;
  FillExport(*exported, message.initRoot<schema::Envelope>().initReady());
  const std::array<int, 1> fds = {exported->fd.get()};
  if (!supervisor.Send(message, fds).ok()) return 4;
  while (true) ::pause();
}

int ImporterRole(bool forks) {
  ControlSocket supervisor{UniqueFd(3)};
  std::unique_ptr<ImportedArena> arena;
  while (true) {
    auto received = supervisor.Receive(kSoon);
    if (!received.ok()) return 0;
    capnp::MallocMessageBuilder answer;
    auto envelope = answer.initRoot<schema::Envelope>();
    if (received->envelope().isImportArena()) {
      auto imported = ImportHostArena(ReadExport(*received, received->envelope().getImportArena()));
      if (!imported.ok() || !HoldsPattern((*imported)->bytes())) return 1;
      arena = *std::move(imported);
      if (forks) ForkASleeper();
      envelope.initImported().setGeneration(arena->generation());
    } else if (received->envelope().isCloseImports() && arena != nullptr) {
      // The owner may be dead by now; what it wrote is not.
      if (!HoldsPattern(arena->bytes())) return 2;
      arena.reset();
      envelope.initImportsClosed();
    } else {
      return 3;
    }
    if (!supervisor.Send(answer).ok()) return 4;
  }
}

}  // namespace
}  // namespace baton::ipc

int main(int argc, char** argv) {
  const std::string role = argc > 1 ? argv[1] : "";
  if (role.size() > 5 && role.substr(role.size() - 5) == "owner") {
    return baton::ipc::OwnerRole(role == "--forking-owner");
  }
  if (role.size() > 8 && role.substr(role.size() - 8) == "importer") {
    return baton::ipc::ImporterRole(role == "--forking-importer");
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
