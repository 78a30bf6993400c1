// Surveys over the wire: what is not known stays not known, with its reason.
#include "ipc/cuda/gpu_messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "capnp/message.h"
#include "capnp/serialize.h"

#include "ipc/control_socket.h"

namespace baton::ipc::cuda {
namespace {

using ::testing::HasSubstr;

GpuSurvey ThereAndBack(const GpuSurvey& survey) {
  capnp::MallocMessageBuilder message;
  WriteSurvey(survey, message.initRoot<schema::GpuSurvey>());
  EXPECT_LT(capnp::computeSerializedSizeInWords(message) * 8, kMaxControlPacketBytes / 2);
  return ReadSurvey(message.getRoot<schema::GpuSurvey>().asReader());
}

TEST(GpuMessagesTest, WhatIsKnownArrives) {
  const GpuSurvey read =
      ThereAndBack({.memory = GpuSurvey::Memory{100, 40},
                    .processes = std::vector<GpuSurvey::Process>{{7, 60}, {8, std::nullopt}},
                    .mig = true});
  ASSERT_TRUE(read.memory.ok());
  EXPECT_EQ(read.memory->total_bytes, 100u);
  EXPECT_EQ(read.memory->free_bytes, 40u);
  ASSERT_TRUE(read.processes.ok());
  ASSERT_EQ(read.processes->size(), 2u);
  EXPECT_EQ(FindProcess(read, 7)->bytes, 60u);
  EXPECT_EQ(FindProcess(read, 8)->bytes, std::nullopt);
  EXPECT_EQ(FindProcess(read, 9), nullptr);
  ASSERT_TRUE(read.mig.ok());
  EXPECT_TRUE(*read.mig);
}

TEST(GpuMessagesTest, A27_WhatIsNotKnownArrivesAsThat) {
  const GpuSurvey read = ThereAndBack({.memory = absl::UnavailableError("memory?"),
                                       .processes = absl::NotFoundError(std::string(5000, 'x')),
                                       .mig = absl::InternalError("mig?")});
  EXPECT_EQ(read.memory.status(), absl::UnavailableError("memory?"));
  EXPECT_EQ(read.processes.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(read.mig.status(), absl::InternalError("mig?"));
  EXPECT_EQ(FindProcess(read, 7), nullptr);
}

TEST(GpuMessagesTest, A27_AMessageOfNothingKnowsNothing) {
  capnp::MallocMessageBuilder message;
  const GpuSurvey read = ReadSurvey(message.initRoot<schema::GpuSurvey>().asReader());
  EXPECT_FALSE(read.memory.ok());
  EXPECT_FALSE(read.processes.ok());
  EXPECT_FALSE(read.mig.ok());
}

TEST(GpuMessagesTest, A27_AListThatIsTooLongIsNotKnownRatherThanCut) {
  GpuSurvey survey = UnknownSurvey(absl::UnknownError("?"));
  survey.processes = std::vector<GpuSurvey::Process>(kMaxSurveyProcesses, {1, 1});
  EXPECT_TRUE(ThereAndBack(survey).processes.ok());
  survey.processes->push_back({2, 2});
  const GpuSurvey read = ThereAndBack(survey);
  EXPECT_FALSE(read.processes.ok());
  EXPECT_THAT(std::string(read.processes.status().message()), HasSubstr("513 processes"));
}

TEST(GpuMessagesTest, AUuidHas16Bytes) {
  Uuid uuid{};
  for (unsigned char i = 0; i < 16; ++i) uuid.bytes[i] = i;
  const auto read = ReadUuid(UuidData(uuid));
  ASSERT_TRUE(read.ok());
  EXPECT_THAT(read->bytes, ::testing::ElementsAreArray(uuid.bytes));
  EXPECT_FALSE(ReadUuid(UuidData(uuid).slice(0, 15)).ok());
  EXPECT_FALSE(ReadUuid({}).ok());
}

}  // namespace
}  // namespace baton::ipc::cuda
