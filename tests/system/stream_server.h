// A server on the model whose methods stream (tests/models/stream_model.cc).
#ifndef BATON_TESTS_SYSTEM_STREAM_SERVER_H_
#define BATON_TESTS_SYSTEM_STREAM_SERVER_H_

#include <sys/types.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

#include "tests/runtime/front/stream_calls.h"
#include "tests/system/device_under_test.h"
#include "tests/system/system_test_base.h"

namespace baton::testing {

class StreamServerTest : public SystemTest {
 protected:
  // `config` are further lines of config.yaml.
  void ServeStreams(size_t max_streams, const std::string& config = "") {
    StartServer(max_streams, config);
    Attach();
  }
  // The same, but for this process's front: without it, it has one thread.
  void StartServer(size_t max_streams, const std::string& config = "") {
    const char* build = std::getenv("BATON_BINARY_DIR");
    temp_.Write(
        "model/config.yaml",
        absl::StrCat("name: streams\nloader: native\nfile: ", build == nullptr ? "" : build,
                     "/tests/models/stream_model.so\n", DeviceConfig(), config,
                     "native: {options: {max_streams: '", max_streams, "', variable: API_KEY}}\n"));
    options_.directory = temp_.path() + "/model";
    if (with_secrets_) options_.secrets_directory = secrets_;
    absl::StatusOr<std::unique_ptr<TestServer>> server = TestServer::Start(options_);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }
  void Attach() {
    absl::StatusOr<std::unique_ptr<Front>> front = server_->Attach();
    ASSERT_TRUE(front.ok()) << front.status();
    front_ = *std::move(front);
  }
  Channel Open() {
    absl::StatusOr<Channel> channel = front_->OpenChannel({.ring_entries = 64});
    EXPECT_TRUE(channel.ok()) << channel.status();
    return *std::move(channel);
  }

  struct State {
    uint64_t generation = 0;
    int64_t cancelled = -1;
    pid_t pid = 0;
  };
  State Ask(Channel& channel) {
    absl::StatusOr<Response> response = channel.Call(test::Scalars(channel, 0, {}));
    EXPECT_TRUE(response.ok()) << response.status();
    if (!response.ok()) return {};
    return {.generation = response->generation(),
            .cancelled = response->output<int64_t>("cancelled")[0],
            .pid = static_cast<pid_t>(response->output<int64_t>("pid")[0])};
  }

  bool with_secrets_ = false;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_SYSTEM_STREAM_SERVER_H_
