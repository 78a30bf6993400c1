// Short ways to call the methods of StreamModel.
#ifndef BATON_TESTS_RUNTIME_FRONT_STREAM_CALLS_H_
#define BATON_TESTS_RUNTIME_FRONT_STREAM_CALLS_H_

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "baton/channel.h"
#include "tests/runtime/front/stream_model.h"

namespace baton::test {

inline constexpr absl::Duration kLong = absl::Minutes(1);

// A loaned request of `method` with these scalars.
inline Request Scalars(Channel& channel, uint32_t method,
                       const std::vector<std::pair<std::string, int64_t>>& values) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, value] : values) {
    specs.push_back({.name = name, .dtype = DType::kInt64, .shape = {}});
  }
  absl::StatusOr<RequestPlan> plan = channel.Plan(specs, {.method = method});
  EXPECT_TRUE(plan.ok()) << plan.status();
  absl::StatusOr<Request> request = channel.Loan(*plan);
  EXPECT_TRUE(request.ok()) << request.status();
  for (const auto& [name, value] : values) request->input<int64_t>(name)[0] = value;
  return *std::move(request);
}

inline Stream OpenCount(Channel& channel,
                        const std::vector<std::pair<std::string, int64_t>>& values,
                        const StreamOptions& options = {}) {
  absl::StatusOr<Stream> stream = channel.OpenStream(Scalars(channel, kCount, values), options);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return *std::move(stream);
}

inline Stream OpenItems(Channel& channel, uint32_t method, const StreamOptions& options = {}) {
  absl::StatusOr<Stream> stream = channel.OpenStream(Scalars(channel, method, {}), options);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return *std::move(stream);
}

inline absl::Status WriteItem(Stream& stream, int64_t x, absl::Duration timeout = kLong) {
  absl::StatusOr<Request> item =
      stream.NewItem({{.name = "x", .dtype = DType::kInt64, .shape = {}}});
  if (!item.ok()) return item.status();
  item->input<int64_t>("x")[0] = x;
  return stream.Write(*std::move(item), timeout);
}

// Nothing, the end, an error, or the number that was read, as text.
inline std::string ReadText(Stream& stream, absl::Duration timeout = absl::ZeroDuration()) {
  const absl::StatusOr<Stream::ReadResult> read = stream.Read(timeout);
  if (!read.ok()) return std::string(absl::StatusCodeToString(read.status().code()));
  if (read->found == Stream::Found::kNothing) return "nothing";
  if (read->found == Stream::Found::kEnd) return "end";
  const std::span<const int64_t> y = read->response.output<int64_t>("y");
  return y.empty() ? "empty" : std::to_string(y[0]);
}

}  // namespace baton::test

#endif  // BATON_TESTS_RUNTIME_FRONT_STREAM_CALLS_H_
