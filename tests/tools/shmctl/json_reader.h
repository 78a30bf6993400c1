// JSON as a test looks at it: parsed with Cap'n Proto, then asked by path.
#ifndef BATON_TESTS_TOOLS_SHMCTL_JSON_READER_H_
#define BATON_TESTS_TOOLS_SHMCTL_JSON_READER_H_

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "capnp/compat/json.capnp.h"
#include "capnp/message.h"

namespace baton::testing {

class JsonReader {
 public:
  // One line of JSON, line end included. What is none makes the test fail.
  explicit JsonReader(const std::string& line);

  // A member, or an element; "none" (of type null) where there is no such one.
  JsonReader operator[](const std::string& key) const;
  JsonReader operator[](size_t index) const;

  std::set<std::string> Keys() const;  // of an object; else empty
  size_t size() const;                 // of an array; else 0
  std::string Text() const;            // of a string; else what it is instead
  bool True() const;
  double Number() const;  // also of a string of digits
  std::vector<double> Numbers() const;

 private:
  JsonReader(std::shared_ptr<capnp::MallocMessageBuilder> message, capnp::json::Value::Reader value)
      : message_(std::move(message)), value_(value) {}

  std::shared_ptr<capnp::MallocMessageBuilder> message_;
  capnp::json::Value::Reader value_;
};

}  // namespace baton::testing

#endif  // BATON_TESTS_TOOLS_SHMCTL_JSON_READER_H_
