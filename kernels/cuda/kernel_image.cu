// All kernels, as one translation unit: the device compiler runs once, and there
// is one image to load.
#include "kernels/cuda/cast.cu"
#include "kernels/cuda/dense.cu"
#include "kernels/cuda/digest.cu"
#include "kernels/cuda/pack.cu"
#include "kernels/cuda/softmax_rows.cu"
