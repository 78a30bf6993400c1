/* The C interface between Baton and a native model: a shared library that
 * exports one function, baton_model_api.
 *
 * C++ authors use baton/model.h, which wraps all of this; this header is for
 * other languages.
 *
 * Rules
 *  - Only plain data crosses. Every struct that Baton hands out starts with its
 *    size, every table that the library hands out as well: a newer side appends
 *    fields, an older one does not look at them. Another major version is refused.
 *  - Nothing may be thrown or longjmp'ed through these functions.
 *  - Calls come from one thread at a time, in the order
 *      stage, signature, methods, max_streams, device_bytes, upload, run...,
 *      cleanup, destroy
 *    where upload to cleanup may be left out, and after a failed call only
 *    destroy follows (a failed run may be followed by more). A run is also one
 *    of run_method, start_stream and next; end_stream comes once for each stream
 *    that start_stream gave, before cleanup. It need not be the same thread each
 *    time where max_streams gave more than 1: then all functions of a stream that
 *    gets items are called on one of its own, and while it waits in BatonItems.next
 *    other functions are called, on other threads, one at a time.
 *  - Whoever allocates frees: pointers that one side gets are the other's, and
 *    valid until the call returns, unless said otherwise.
 */
#ifndef BATON_MODEL_ABI_H_
#define BATON_MODEL_ABI_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BATON_MODEL_ABI_MAJOR 1u
#define BATON_MODEL_ABI_MINOR 1u
#define BATON_MODEL_ABI_VERSION ((BATON_MODEL_ABI_MAJOR << 16) | BATON_MODEL_ABI_MINOR)

/* What functions return: 0, or the number of a gRPC status code, which is also
 * Abseil's. The ones that a model is likely to need: */
enum {
  BATON_OK = 0,
  BATON_INVALID_ARGUMENT = 3,
  BATON_NOT_FOUND = 5,
  BATON_RESOURCE_EXHAUSTED = 8,
  BATON_FAILED_PRECONDITION = 9,
  BATON_UNIMPLEMENTED = 12,
  BATON_INTERNAL = 13
};

/* An error's text, filled by the callee when it returns another code than 0:
 * at most `capacity` bytes with the ending NUL. */
typedef struct BatonError {
  uint32_t struct_size;
  uint32_t capacity;
  char* message;
} BatonError;

typedef struct BatonOption {
  const char* key;
  const char* value;
} BatonOption;

/* What a model is made from. */
typedef struct BatonStageArgs {
  uint32_t struct_size;
  uint32_t abi_version;  /* Baton's own */
  const char* name;      /* of the model, from its config.yaml */
  const char* directory; /* absolute */
  const char* device;    /* "host" */
  const BatonOption* options;
  uint64_t option_count;
} BatonStageArgs;

/* A dtype is the number of baton::DType: 1 bool, 2 uint8, 3 int8, 4 uint16,
 * 5 int16, 6 uint32, 7 int32, 8 uint64, 9 int64, 10 float16, 11 bfloat16,
 * 12 float32, 13 float64. A dimension of -1 is chosen by each request. */
typedef struct BatonTensorSpec {
  const char* name;
  const int64_t* shape;
  uint32_t rank;
  uint32_t dtype;
} BatonTensorSpec;

typedef struct BatonSignature {
  uint32_t struct_size;
  uint32_t input_count;
  uint32_t output_count;
  uint32_t reserved;
  const BatonTensorSpec* inputs;
  const BatonTensorSpec* outputs;
} BatonSignature;

/* Since 1.1: an input or an output of a method. The entries of an array lie
 * struct_size of the first one apart. */
typedef struct BatonParameter {
  uint32_t struct_size;
  uint32_t flags;   /* BATON_PARAMETER_... */
  uint32_t content; /* the number of baton::Content; 0: a tensor */
  uint32_t reserved;
  BatonTensorSpec spec;
  const char* type_text;    /* for people; NULL: none */
  const char* default_text; /* likewise, of an optional input */
} BatonParameter;

enum {
  BATON_PARAMETER_OPTIONAL = 1, /* an input that a request may leave out: its dtype is 0 then */
  BATON_PARAMETER_STREAMED = 2  /* an input that comes with each item of a stream */
};

/* Since 1.1: something that the model can be asked to do. As BatonParameter in
 * arrays. */
typedef struct BatonMethod {
  uint32_t struct_size;
  uint32_t flags; /* BATON_METHOD_... */
  const char* name;
  const char* doc; /* for people; NULL: none */
  uint32_t input_count;
  uint32_t output_count;
  const BatonParameter* inputs;
  const BatonParameter* outputs;
} BatonMethod;

enum { BATON_METHOD_STREAMS_INPUTS = 1, BATON_METHOD_STREAMS_OUTPUTS = 2 };

/* An input: dense, row-major, 128-byte aligned, not to be written. In the
 * signature's order, and already checked against it. */
typedef struct BatonTensor {
  const char* name;
  uint64_t name_bytes;
  const int64_t* shape;
  const void* data;
  uint64_t bytes;
  uint32_t rank;
  uint32_t dtype;
} BatonTensor;

/* Device memory for the model's weights, and the way to fill it. On the device
 * "host" an address is a pointer. */
typedef struct BatonDeviceRegion {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t address;
  uint64_t bytes;
  const char* device;
  void* context;
  /* Copies host bytes to a device address; returns when `from` may be reused. */
  int32_t (*copy)(void* context, uint64_t to_address, const void* from, uint64_t bytes,
                  BatonError* error);
} BatonDeviceRegion;

/* Where results are written: memory that the caller of the model loaned. */
typedef struct BatonOutputs {
  uint32_t struct_size;
  uint32_t reserved;
  void* context;
  /* Memory for output `index`, dense, of `shape`: 128-byte aligned,
   * uninitialised, valid until run returns. Once for each output, in any order.
   * BATON_RESOURCE_EXHAUSTED when it does not fit: ask for all outputs, so that
   * the size that would do is known, then return that code from run. */
  int32_t (*allocate)(void* context, uint32_t index, const int64_t* shape, uint32_t rank,
                      void** data, uint64_t* bytes, BatonError* error);
} BatonOutputs;

/* Since 1.1: the items that the caller of a stream sends. */
typedef struct BatonItems {
  uint32_t struct_size;
  uint32_t reserved;
  void* context;
  /* Waits for the next: the streamed inputs, in order, valid until the next call
   * or the stream's end. *there is 0 when there are no more. Another code than 0:
   * end the stream with it (the caller has gone, or its time is over). */
  int32_t (*next)(void* context, const BatonTensor** inputs, uint32_t* input_count, int32_t* there,
                  BatonError* error);
} BatonItems;

/* The library's functions; static storage. `model` is what stage gave. */
typedef struct BatonModelApi {
  uint32_t struct_size;
  uint32_t abi_version;
  /* Makes a model: code and weights in host memory, no device memory. */
  int32_t (*stage)(const BatonStageArgs* args, void** model, BatonError* error);
  void (*destroy)(void* model);
  /* Owned by the model, valid and unchanged until destroy. */
  int32_t (*signature)(void* model, const BatonSignature** signature, BatonError* error);
  /* Device bytes that upload needs; constant. */
  int32_t (*device_bytes)(void* model, uint64_t* bytes, BatonError* error);
  int32_t (*upload)(void* model, const BatonDeviceRegion* region, BatonError* error);
  int32_t (*run)(void* model, const BatonTensor* inputs, uint32_t input_count,
                 const BatonOutputs* outputs, BatonError* error);
  int32_t (*cleanup)(void* model, BatonError* error);

  /* Since 1.1; all of them, or a table that ends before. A model without methods
   * of its own gives a count of 0, and is asked for run alone. */
  /* As signature; the first method is the one that signature tells of. */
  int32_t (*methods)(void* model, const BatonMethod** methods, uint32_t* count, BatonError* error);
  /* Streams that may be under way at once; 0 counts as 1. What more than 1 means
   * for threads: see above. */
  uint32_t (*max_streams)(void* model);
  int32_t (*run_method)(void* model, uint32_t method, const BatonTensor* inputs,
                        uint32_t input_count, const BatonOutputs* outputs, BatonError* error);
  /* Of a method that streams. `inputs` (those that are not streamed) and `items`
   * are valid until end_stream. */
  int32_t (*start_stream)(void* model, uint32_t method, const BatonTensor* inputs,
                          uint32_t input_count, const BatonItems* items, void** stream,
                          BatonError* error);
  /* Writes the next response; *given is 0 when there is none. After
   * BATON_RESOURCE_EXHAUSTED from an allocation it is called again, and has to
   * give the same one. */
  int32_t (*next)(void* stream, const BatonOutputs* outputs, int32_t* given, BatonError* error);
  /* Also before its end: its caller may have cancelled it. */
  void (*end_stream)(void* stream);
} BatonModelApi;

/* The one symbol that a library exports. Gets Baton's version; a library that
 * cannot work with it returns NULL. */
#define BATON_MODEL_API_SYMBOL "baton_model_api"
typedef const BatonModelApi* (*BatonModelApiFunction)(uint32_t baton_abi_version);

#ifdef __cplusplus
} /* extern "C" */
#endif

#endif /* BATON_MODEL_ABI_H_ */
