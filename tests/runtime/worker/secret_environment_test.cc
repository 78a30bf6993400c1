#include "runtime/worker/secret_environment.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "capnp/message.h"
#include "capnp/serialize.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "ipc/schema/control.capnp.h"
#include "ipc/unique_fd.h"

namespace baton::runtime {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Snapshot {
  ipc::UniqueFd fd;
  uint64_t bytes = 0;
};

Snapshot Write(const std::string& bytes) {
  Snapshot snapshot{ipc::UniqueFd(::memfd_create("secrets", MFD_CLOEXEC)), bytes.size()};
  EXPECT_EQ(::write(snapshot.fd.get(), bytes.data(), bytes.size()),
            static_cast<ssize_t>(bytes.size()));
  return snapshot;
}

Snapshot Secrets(const std::vector<std::pair<std::string, std::string>>& secrets) {
  capnp::MallocMessageBuilder message;
  auto entries = message.initRoot<ipc::schema::Secrets>().initEntries(secrets.size());
  for (size_t i = 0; i < secrets.size(); ++i) {
    entries[i].setKey(secrets[i].first);
    entries[i].setValue(kj::arrayPtr(reinterpret_cast<const kj::byte*>(secrets[i].second.data()),
                                     secrets[i].second.size()));
  }
  const auto words = capnp::messageToFlatArray(message);
  const auto bytes = words.asBytes();
  return Write(std::string(reinterpret_cast<const char*>(bytes.begin()), bytes.size()));
}

std::string Env(const char* key) {
  const char* value = std::getenv(key);
  return value == nullptr ? "(unset)" : value;
}

TEST(SecretEnvironmentTest, A12FileValuesOverrideTheInheritedEnvironment) {
  ::setenv("BATON_TEST_INHERITED", "inherited", 1);
  ::setenv("BATON_TEST_BOTH", "inherited", 1);
  const Snapshot snapshot = Secrets(
      {{"BATON_TEST_BOTH", "from file"}, {"BATON_TEST_NEW", "a=b\n"}, {"BATON_TEST_EMPTY", ""}});
  ASSERT_TRUE(SetSecretEnvironment(snapshot.fd.get(), snapshot.bytes).ok());
  EXPECT_EQ(Env("BATON_TEST_INHERITED"), "inherited");
  EXPECT_EQ(Env("BATON_TEST_BOTH"), "from file");
  EXPECT_EQ(Env("BATON_TEST_NEW"), "a=b\n");
  EXPECT_EQ(Env("BATON_TEST_EMPTY"), "");
}

TEST(SecretEnvironmentTest, NoneAreFine) {
  EXPECT_TRUE(SetSecretEnvironment(-1, 0).ok());
  const Snapshot snapshot = Secrets({});
  EXPECT_TRUE(SetSecretEnvironment(snapshot.fd.get(), snapshot.bytes).ok());
}

TEST(SecretEnvironmentTest, A16ErrorsNameTheKeyAndNotTheValue) {
  const Snapshot snapshot = Secrets({{"BATON_TEST_NUL", std::string("hush\0hush", 9)}});
  const absl::Status status = SetSecretEnvironment(snapshot.fd.get(), snapshot.bytes);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("BATON_TEST_NUL"));
  EXPECT_THAT(std::string(status.message()), Not(HasSubstr("hush")));
}

TEST(SecretEnvironmentTest, RefusesWhatNoVariableCanBeNamed) {
  for (const char* key : {"", "A=B"}) {
    const Snapshot snapshot = Secrets({{key, "x"}});
    EXPECT_EQ(SetSecretEnvironment(snapshot.fd.get(), snapshot.bytes).code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(SecretEnvironmentTest, RefusesWhatIsNoSnapshot) {
  const Snapshot garbage = Write(std::string(64, '\xff'));
  EXPECT_EQ(SetSecretEnvironment(garbage.fd.get(), garbage.bytes).code(),
            absl::StatusCode::kInvalidArgument);
  const Snapshot snapshot = Secrets({{"BATON_TEST_SHORT", "x"}});
  EXPECT_EQ(SetSecretEnvironment(snapshot.fd.get(), snapshot.bytes + 1).code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(SetSecretEnvironment(snapshot.fd.get(), ~uint64_t{0}).code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace baton::runtime
