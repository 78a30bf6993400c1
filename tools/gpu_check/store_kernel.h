// A kernel that writes four bytes, as text that every driver compiles itself:
// so there is one without nvcc. What a copy or a fill may do, a kernel may do
// in another way, and the other way round.
#ifndef BATON_TOOLS_GPU_CHECK_STORE_KERNEL_H_
#define BATON_TOOLS_GPU_CHECK_STORE_KERNEL_H_

namespace baton::gpu_check {

inline constexpr char kStoreKernelName[] = "baton_gpu_check_store";
// Parameters: uint64_t address, uint32_t value.
inline constexpr char kStoreKernelPtx[] = R"(
.version 7.0
.target sm_80
.address_size 64
.visible .entry baton_gpu_check_store(.param .u64 address, .param .u32 value)
{
  .reg .b64 %rd<2>;
  .reg .b32 %r<2>;
  ld.param.u64 %rd1, [address];
  ld.param.u32 %r1, [value];
  st.u32 [%rd1], %r1;
  ret;
}
)";

}  // namespace baton::gpu_check

#endif  // BATON_TOOLS_GPU_CHECK_STORE_KERNEL_H_
