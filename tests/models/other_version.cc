// A model that was built against another major version of the ABI.
#include "baton/model_abi.h"

extern "C" const BatonModelApi* baton_model_api(uint32_t) {
  static BatonModelApi api = {};
  api.struct_size = sizeof(api);
  api.abi_version = (BATON_MODEL_ABI_MAJOR + 1) << 16;
  return &api;
}
