#include "tests/simgpu/books.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <set>

namespace baton::ipc::cuda::sim {
namespace {

constexpr int kPidBits = 22;  // as many as Linux ever gives pids
constexpr off_t kNextIdOffset = 0;
constexpr off_t kPeakOffset = 8;
// Settling what was found can reveal more only if more has died meanwhile.
constexpr int kMostPasses = 8;

uint64_t NowNs() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// One getdents call lists a folder of some hundred names, and the kernel lets
// nobody change the folder meanwhile: names that were never there together are
// not listed together.
void ForEachName(int folder, const char* name, const std::function<void(const char*)>& visit) {
  const int fd = ::openat(folder, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  DIR* const dir = ::fdopendir(fd);
  if (dir == nullptr) {
    ::close(fd);
    return;
  }
  while (const dirent* const entry = ::readdir(dir)) {
    if (entry->d_name[0] != '.') visit(entry->d_name);
  }
  ::closedir(dir);
}

std::string Path(const char* folder, const std::string& name) {
  return std::string(folder) + "/" + name;
}

std::string MarkPath(uint64_t id, pid_t pid) {
  return Path("marks", std::to_string(id) + "." + std::to_string(pid));
}

struct EndedName {
  Record record;
  pid_t charged = 0;  // 0: nobody
  uint64_t noticed_ns = 0;
};

// Of live/ (the first five fields) and of ended/ (all).
std::optional<EndedName> ParseName(const char* name) {
  EndedName parsed;
  unsigned long long id = 0, bytes = 0, noticed = 0;
  char kind = 0;
  const int fields = std::sscanf(name, "%llu.%d.%d.%llu.%c.%d.%llu", &id, &parsed.record.device,
                                 &parsed.record.owner, &bytes, &kind, &parsed.charged, &noticed);
  if (fields < 5) return std::nullopt;
  parsed.record.id = id;
  parsed.record.bytes = bytes;
  parsed.record.kind = static_cast<RecordKind>(kind);
  parsed.noticed_ns = noticed;
  return parsed;
}

struct flock Range(short type, uint64_t start, uint64_t length) {
  struct flock range {};
  range.l_type = type;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(start);
  range.l_len = static_cast<off_t>(length);
  return range;
}

// The first byte that some other description has locked there.
std::optional<uint64_t> LockedByte(int fd, uint64_t start, uint64_t length) {
  if (length == 0) return std::nullopt;
  struct flock range = Range(F_WRLCK, start, length);
  if (::fcntl(fd, F_OFD_GETLK, &range) != 0 || range.l_type == F_UNLCK) return std::nullopt;
  return static_cast<uint64_t>(range.l_start);
}

// The descriptors of `lock` that this process has. A forked child closes its
// copies: else, if its parent died inside, the lock would stay as long as it.
constexpr size_t kMostBooks = 64;
std::array<std::atomic<int>, kMostBooks> lock_fds;
std::atomic<bool> slot_taken[kMostBooks];

void CloseLocksInChild() {
  for (std::atomic<int>& fd : lock_fds) {
    const int own = fd.exchange(0);
    if (own > 0) ::close(own);
  }
}

int TakeSlot() {
  static const int registered = ::pthread_atfork(nullptr, nullptr, &CloseLocksInChild);
  if (registered != 0) std::abort();
  for (size_t i = 0; i < kMostBooks; ++i) {
    if (!slot_taken[i].exchange(true)) return static_cast<int>(i);
  }
  std::fputs("simgpu: more machines in one process than it has room for\n", stderr);
  std::abort();
}

}  // namespace

// The machine's lock; the kernel lets go of it if the process dies inside.
class Books::MachineLock {
 public:
  explicit MachineLock(Books* books) : guard_(books->mutex_), slot_(lock_fds[books->lock_slot_]) {
    if (slot_ <= 0) slot_ = ::openat(books->folder_.get(), "lock", O_RDWR | O_CLOEXEC);
    struct flock range = Range(F_WRLCK, 0, 1);
    while (::fcntl(slot_, F_OFD_SETLKW, &range) != 0 && errno == EINTR) {
    }
  }
  ~MachineLock() {
    struct flock range = Range(F_UNLCK, 0, 1);
    ::fcntl(slot_, F_OFD_SETLK, &range);
  }
  MachineLock(const MachineLock&) = delete;
  MachineLock& operator=(const MachineLock&) = delete;

 private:
  std::lock_guard<std::mutex> guard_;
  std::atomic<int>& slot_;
};

bool Books::MakeMachine(const std::string& folder) {
  for (const char* name : {"/live", "/ended", "/marks"}) {
    if (::mkdir((folder + name).c_str(), 0700) != 0) return false;
  }
  for (const char* name : {"/lock", "/books"}) {
    if (!UniqueFd(::open((folder + name).c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600))) {
      return false;
    }
  }
  return true;
}

std::unique_ptr<Books> Books::Open(const std::string& folder) {
  std::unique_ptr<Books> books(new Books);
  books->lock_slot_ = TakeSlot();
  books->folder_.reset(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!books->folder_) return nullptr;
  books->hold_.reset(::openat(books->folder_.get(), "books", O_RDWR | O_CLOEXEC));
  books->look_.reset(::openat(books->folder_.get(), "books", O_RDWR | O_CLOEXEC));
  if (!books->hold_ || !books->look_) return nullptr;
  return books;
}

Books::~Books() {
  const int fd = lock_fds[lock_slot_].exchange(0);
  if (fd > 0) ::close(fd);
  slot_taken[lock_slot_] = false;
}

std::string Books::NameOf(const Record& record) const {
  return std::to_string(record.id) + "." + std::to_string(record.device) + "." +
         std::to_string(record.owner) + "." + std::to_string(record.bytes) + "." +
         static_cast<char>(record.kind);
}

void Books::FindHolders(Entry* entry) const {
  // The kernel names the first lock that it comes across, not the lowest: look
  // on both sides of it.
  const uint64_t first = entry->record.id << kPidBits;
  std::vector<std::pair<uint64_t, uint64_t>> todo = {{first, uint64_t{1} << kPidBits}};
  while (!todo.empty()) {
    const auto [start, length] = todo.back();
    todo.pop_back();
    const std::optional<uint64_t> byte = LockedByte(look_.get(), start, length);
    if (!byte.has_value()) continue;
    entry->holders.push_back(static_cast<pid_t>(*byte - first));
    todo.emplace_back(start, *byte - start);
    todo.emplace_back(*byte + 1, start + length - *byte - 1);
  }
  std::sort(entry->holders.begin(), entry->holders.end());
}

bool Books::HasDescriptors(const Record& record) const {
  if (record.kind != RecordKind::kShareableVmm) return false;
  const UniqueFd content = OpenContent(record);
  return content.valid() && LockedByte(content.get(), 0, 1).has_value();
}

bool Books::Held(const Record& record) const {
  return HasDescriptors(record) ||
         LockedByte(look_.get(), record.id << kPidBits, uint64_t{1} << kPidBits).has_value();
}

std::vector<Entry> Books::List(const TeardownRule& teardown) {
  std::vector<Entry> entries;
  ForEachName(folder_.get(), "live", [&](const char* name) {
    if (const auto parsed = ParseName(name)) entries.push_back({.record = parsed->record});
  });
  for (Entry& entry : entries) {
    FindHolders(&entry);
    entry.descriptors = HasDescriptors(entry.record);
    const bool by_owner =
        std::binary_search(entry.holders.begin(), entry.holders.end(), entry.record.owner);
    if (by_owner) {
      entry.charged = entry.record.owner;
    } else if (!entry.holders.empty()) {
      entry.charged = entry.holders.front();
    }
  }
  // After live/: what goes from there to ended/ meanwhile is seen, if twice.
  ListEnded(teardown, &entries);
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.record.id < b.record.id; });
  return entries;
}

void Books::ListEnded(const TeardownRule& teardown, std::vector<Entry>* entries) {
  std::set<uint64_t> seen;
  for (const Entry& entry : *entries) seen.insert(entry.record.id);
  const uint64_t now_ns = NowNs();
  ForEachName(folder_.get(), "ended", [&](const char* name) {
    const auto parsed = ParseName(name);
    if (!parsed.has_value()) return;
    const bool over = !teardown.hold && now_ns >= parsed->noticed_ns + teardown.delay_ns;
    if (over || (teardown.dead_only && parsed->charged == 0)) {
      ::unlinkat(folder_.get(), Path("ended", name).c_str(), 0);
      return;
    }
    if (!seen.insert(parsed->record.id).second) return;
    Entry entry{.record = parsed->record, .ended = true};
    if (parsed->charged != 0) entry.charged = parsed->charged;
    entries->push_back(std::move(entry));
  });
}

std::vector<Entry> Books::Look(const TeardownRule& teardown) {
  for (int pass = 0;; ++pass) {
    std::vector<Entry> entries = List(teardown);
    const bool settled = std::none_of(entries.begin(), entries.end(), [](const Entry& entry) {
      return !entry.ended && entry.holders.empty() && !entry.descriptors;
    });
    if (settled || pass == kMostPasses) return entries;
    const MachineLock lock(this);
    Settle();
  }
}

void Books::Settle() {
  std::vector<Record> records;
  std::set<uint64_t> ids;
  ForEachName(folder_.get(), "live", [&](const char* name) {
    const auto parsed = ParseName(name);
    if (!parsed.has_value()) return;
    records.push_back(parsed->record);
    ids.insert(parsed->record.id);
  });
  for (const Record& record : records) {
    if (!Held(record)) End(record);
  }
  // Marks whose makers were killed before there was anything to hold.
  ForEachName(folder_.get(), "marks", [&](const char* name) {
    if (!ids.contains(std::strtoull(name, nullptr, 10))) {
      ::unlinkat(folder_.get(), Path("marks", name).c_str(), 0);
    }
  });
}

void Books::End(const Record& record) {
  // Whoever has left a mark did not let go: it has died holding it.
  std::vector<pid_t> left;
  ForEachName(folder_.get(), "marks", [&](const char* name) {
    unsigned long long id = 0;
    int pid = 0;
    if (std::sscanf(name, "%llu.%d", &id, &pid) == 2 && id == record.id) left.push_back(pid);
  });
  pid_t charged = 0;
  if (std::find(left.begin(), left.end(), record.owner) != left.end()) {
    charged = record.owner;
  } else if (!left.empty()) {
    charged = *std::min_element(left.begin(), left.end());
  }
  const std::string live = Path("live", NameOf(record));
  const std::string ended =
      Path("ended", NameOf(record) + "." + std::to_string(charged) + "." + std::to_string(NowNs()));
  if (const UniqueFd content = OpenContent(record)) {
    // Nobody can read it any more: give the machine its own memory back.
    if (::ftruncate(content.get(), 0) != 0) std::perror("simgpu: ftruncate");
  }
  ::renameat(folder_.get(), live.c_str(), folder_.get(), ended.c_str());
  for (const pid_t pid : left) ::unlinkat(folder_.get(), MarkPath(record.id, pid).c_str(), 0);
}

bool Books::LockByte(uint64_t id, short type) {
  struct flock range = Range(type, id << kPidBits | static_cast<uint64_t>(::getpid()), 1);
  return ::fcntl(hold_.get(), F_OFD_SETLK, &range) == 0;
}

bool Books::Mark(uint64_t id) {
  return UniqueFd(::openat(folder_.get(), MarkPath(id, ::getpid()).c_str(),
                           O_RDWR | O_CREAT | O_CLOEXEC, 0600))
      .valid();
}

std::optional<uint64_t> Books::NextId() {
  uint64_t last = 0;
  if (::pread(hold_.get(), &last, sizeof(last), kNextIdOffset) < 0) return std::nullopt;
  const uint64_t id = last + 1;
  if (::pwrite(hold_.get(), &id, sizeof(id), kNextIdOffset) != sizeof(id)) return std::nullopt;
  return id;
}

uint64_t Books::PeakBytes() const {
  uint64_t peak = 0;
  if (::pread(look_.get(), &peak, sizeof(peak), kPeakOffset) < 0) return 0;
  return peak;
}

void Books::RaisePeak(uint64_t bytes) {
  if (bytes <= PeakBytes()) return;
  if (::pwrite(hold_.get(), &bytes, sizeof(bytes), kPeakOffset) < 0) std::perror("simgpu: peak");
}

std::optional<Record> Books::Create(Record wanted, uint64_t limit_bytes,
                                    const TeardownRule& teardown) {
  const MachineLock lock(this);
  Settle();
  uint64_t device_bytes = wanted.charged_bytes();
  uint64_t allocated_bytes = wanted.kind == RecordKind::kContext ? 0 : wanted.charged_bytes();
  for (const Entry& entry : List(teardown)) {
    const uint64_t bytes = entry.record.charged_bytes();
    if (entry.record.device == wanted.device) device_bytes += bytes;
    if (entry.record.kind != RecordKind::kContext) allocated_bytes += bytes;
  }
  if (device_bytes > limit_bytes) return std::nullopt;
  const std::optional<uint64_t> id = NextId();
  if (!id.has_value()) return std::nullopt;
  wanted.id = *id;
  wanted.owner = ::getpid();
  RaisePeak(allocated_bytes);
  if (!LockByte(wanted.id, F_WRLCK) || !Mark(wanted.id)) return std::nullopt;
  const UniqueFd content(::openat(folder_.get(), Path("live", NameOf(wanted)).c_str(),
                                  O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!content) return std::nullopt;
  if (wanted.kind != RecordKind::kContext &&
      ::ftruncate(content.get(), static_cast<off_t>(wanted.charged_bytes())) != 0) {
    return std::nullopt;
  }
  return wanted;
}

UniqueFd Books::OpenContent(const Record& record) const {
  return UniqueFd(
      ::openat(folder_.get(), Path("live", NameOf(record)).c_str(), O_RDWR | O_CLOEXEC));
}

std::optional<Record> Books::HoldOf(uint64_t id, pid_t owner) {
  const MachineLock lock(this);
  std::optional<Record> found;
  ForEachName(folder_.get(), "live", [&](const char* name) {
    const auto parsed = ParseName(name);
    if (parsed.has_value() && parsed->record.id == id) found = parsed->record;
  });
  if (!found.has_value() || found->owner != owner || !LockByte(id, F_WRLCK)) return std::nullopt;
  // Looked at after this process holds it: the owner's death in between is
  // either seen here, or leaves this process the one that holds it.
  const uint64_t owners_byte = id << kPidBits | static_cast<uint64_t>(owner);
  if (!LockedByte(look_.get(), owners_byte, 1).has_value()) {
    LockByte(id, F_UNLCK);
    return std::nullopt;
  }
  Mark(id);
  return found;
}

std::optional<Record> Books::HoldDescriptor(int descriptor) {
  struct stat wanted {};
  if (::fstat(descriptor, &wanted) != 0) return std::nullopt;
  const MachineLock lock(this);
  std::optional<Record> found;
  ForEachName(folder_.get(), "live", [&](const char* name) {
    struct stat seen {};
    const auto parsed = ParseName(name);
    if (parsed.has_value() && parsed->record.kind == RecordKind::kShareableVmm &&
        ::fstatat(folder_.get(), Path("live", name).c_str(), &seen, 0) == 0 &&
        seen.st_dev == wanted.st_dev && seen.st_ino == wanted.st_ino) {
      found = parsed->record;
    }
  });
  if (!found.has_value() || !LockByte(found->id, F_WRLCK)) return std::nullopt;
  Mark(found->id);
  return found;
}

UniqueFd Books::Export(const Record& record) {
  const MachineLock lock(this);
  UniqueFd content = OpenContent(record);
  struct flock range = Range(F_RDLCK, 0, 1);
  if (!content || ::fcntl(content.get(), F_OFD_SETLK, &range) != 0) return UniqueFd();
  return content;
}

void Books::Release(const Record& record, const TeardownRule& teardown) {
  const MachineLock lock(this);
  // The mark first: killed in between, it still has let go by itself.
  ::unlinkat(folder_.get(), MarkPath(record.id, ::getpid()).c_str(), 0);
  LockByte(record.id, F_UNLCK);
  if (!Held(record)) End(record);
  // Without a delay it goes now, for a look at the folder, too.
  std::vector<Entry> ended;
  ListEnded(teardown, &ended);
}

}  // namespace baton::ipc::cuda::sim
