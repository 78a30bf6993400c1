// A model that calls a function that nobody has.
#include "baton/model_abi.h"

extern "C" int baton_test_nobody_has_this();

extern "C" const BatonModelApi* baton_model_api(uint32_t) {
  return baton_test_nobody_has_this() == 0 ? nullptr : nullptr;
}
