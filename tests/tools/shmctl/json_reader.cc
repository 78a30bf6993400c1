#include "tests/tools/shmctl/json_reader.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "capnp/compat/json.h"

namespace baton::testing {

using JsonValue = capnp::json::Value;

JsonReader::JsonReader(const std::string& line)
    : message_(std::make_shared<capnp::MallocMessageBuilder>()) {
  auto root = message_->initRoot<JsonValue>();
  EXPECT_EQ(line.find('\n'), line.size() - 1) << "not one line: " << line;
  try {
    const capnp::JsonCodec codec;
    codec.decodeRaw(kj::ArrayPtr<const char>(line.data(), line.size()), root);
  } catch (const kj::Exception& error) {
    ADD_FAILURE() << error.getDescription().cStr() << ": " << line;
  }
  value_ = root.asReader();
}

JsonReader JsonReader::operator[](const std::string& key) const {
  if (value_.isObject()) {
    for (const auto field : value_.getObject()) {
      if (field.getName() == key.c_str()) return {message_, field.getValue()};
    }
  }
  ADD_FAILURE() << "no key '" << key << "'";
  return {message_, JsonValue::Reader()};
}

JsonReader JsonReader::operator[](size_t index) const {
  if (index < size()) return {message_, value_.getArray()[static_cast<uint32_t>(index)]};
  ADD_FAILURE() << "no element " << index;
  return {message_, JsonValue::Reader()};
}

std::set<std::string> JsonReader::Keys() const {
  std::set<std::string> keys;
  if (value_.isObject()) {
    for (const auto field : value_.getObject()) keys.insert(field.getName().cStr());
  }
  return keys;
}

size_t JsonReader::size() const { return value_.isArray() ? value_.getArray().size() : 0; }

std::string JsonReader::Text() const {
  return value_.isString() ? std::string(value_.getString().cStr()) : "(no string)";
}

bool JsonReader::True() const { return value_.isBoolean() && value_.getBoolean(); }

double JsonReader::Number() const {
  if (value_.isNumber()) return value_.getNumber();
  if (value_.isString()) return std::strtod(value_.getString().cStr(), nullptr);
  return std::nan("");
}

std::vector<double> JsonReader::Numbers() const {
  std::vector<double> numbers;
  for (size_t i = 0; i < size(); ++i) numbers.push_back((*this)[i].Number());
  return numbers;
}

}  // namespace baton::testing
