@0xb3f2a6c19d0e4875;

# What a tensor of the content `value` holds: an object of a language that has more than tensors.
#
# The tensor, which lies on a 128-byte boundary:
#
#   | bytes of the message: UInt64, little-endian | the message, standard framing |
#   | arrays, each on a 128-byte boundary counted from the tensor's start |
#
# So a reader copies the message, which is small, and checks it in memory of its own; arrays stay
# where they are.
using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("baton::loader::schema");

struct Value {
  union {
    null @0 :Void;
    bool @1 :Bool;
    int @2 :Int64;
    bigInt @3 :Data;  # two's complement, little-endian: what an int64 cannot hold
    float @4 :Float64;
    text @5 :Text;
    data @6 :Data;
    array @7 :Array;
    list @8 :List(Value);
    tuple @9 :List(Value);
    map @10 :List(Entry);      # keys of any kind, in order
    fields @11 :List(Field);   # named fields
    record @12 :Record;        # an image, a sound, ...
  }

  struct Array {
    dtype @0 :UInt8;  # DType
    shape @1 :List(Int64);
    offset @2 :UInt64;  # from the tensor's start, a multiple of 128
    bytes @3 :UInt64;
    scalar @4 :Bool;  # a numpy scalar, not an array of rank 0
  }

  struct Entry {
    key @0 :Value;
    value @1 :Value;
  }

  struct Field {
    name @0 :Text;
    value @1 :Value;
  }

  struct Record {
    type @0 :Text;  # "Image", "Audio", "Video", "Text", "Frame", "Concept", "Region", "JSON"
    fields @1 :List(Field);
  }
}
