@0xb7a3c1d2e4f50617;
# How tensors are described, in blocks and in control messages.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("baton::ipc::schema");

struct Tensor {
  name @0 :Text;
  dtype @1 :UInt8;          # baton::DType
  shape @2 :List(Int64);
  strides @3 :List(Int64);  # in elements; empty means dense row-major
  region @4 :Region;
  offset @5 :UInt64;        # from the start of the block that was loaned there
  bytes @6 :UInt64;

  enum Region {
    host @0;
    device @1;
  }
}

# At the start of a request block. Offsets are relative to the block, so that
# two requests of one shape have the same bytes wherever their blocks lie.
struct Request {
  inputs @0 :List(Tensor);
}

# At the start of a response block that carries results.
struct Response {
  outputs @0 :List(Tensor);
}

struct TensorSpec {
  name @0 :Text;
  dtype @1 :UInt8;          # 255: each request chooses
  shape @2 :List(Int64);    # -1: each request chooses; [-2]: its rank, too
  content @3 :UInt8;        # baton::Content
  optional @4 :Bool;
  streamed @5 :Bool;
  typeText @6 :Text;
  defaultText @7 :Text;
}

struct Signature {
  inputs @0 :List(TensorSpec);
  outputs @1 :List(TensorSpec);
}

struct Method {
  name @0 :Text;
  signature @1 :Signature;
  streamsInputs @2 :Bool;
  streamsOutputs @3 :Bool;
  doc @4 :Text;
}
