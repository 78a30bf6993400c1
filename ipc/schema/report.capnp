@0xa5d1c7e9f3b20415;
# What shmctl prints with --json: one struct a verb, one line, every key always
# there. Numbers of 64 bits are strings, as Cap'n Proto's JSON has them; shapes
# are numbers.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("baton::ipc::schema");

using Receipt = import "receipt.capnp".Receipt;
using ServerStatus = import "control.capnp".ServerStatus;

# shmctl ls
struct ServerList {
  servers @0 :List(Server);          # by name

  struct Server {
    name @0 :Text;
    pid @1 :Int32;
    folder @2 :Text;
    controlSocket @3 :Text;
  }
}

# shmctl status [N]: the one asked for, or all by name. One that does not answer
# has the state "UNREACHABLE", and the reason says why.
struct StatusReport {
  servers @0 :List(ServerStatus);
}

# shmctl signature N
struct SignatureReport {
  server @0 :Text;
  generation @1 :UInt64;
  inputs @2 :List(TensorType);       # of the first method
  outputs @3 :List(TensorType);
  methods @4 :List(MethodType);
}

struct MethodType {
  name @0 :Text;
  kind @1 :Text;                     # "unary", "server-stream", "client-stream", "bidi-stream"
  doc @2 :Text;
  inputs @3 :List(ParameterType);
  outputs @4 :List(ParameterType);
}

struct ParameterType {
  name @0 :Text;
  dtype @1 :Text;                    # "any": each request chooses
  shape @2 :List(Int64);             # -1: each request chooses; [-2]: its rank, too
  content @3 :Text;                  # "tensor", "scalar", "text", "bytes", "image",
                                     # "json", "value", "secret"
  optional @4 :Bool;
  streamed @5 :Bool;                 # comes with each item of a stream
  type @6 :Text;                     # as the model's language writes it; "": it does not
  default @7 :Text;
}

struct TensorType {
  name @0 :Text;
  dtype @1 :Text;                    # "float32", ...
  shape @2 :List(Int64);             # -1: each request chooses
}

# shmctl receipts N. (`shmctl reload N` prints a Receipt, with --dry-run a
# ReloadPlan of control.capnp.)
struct ReceiptsReport {
  server @0 :Text;
  receipts @1 :List(Receipt);        # oldest first
}

# shmctl timeline N. Offsets are from the reload's start.
struct TimelineReport {
  server @0 :Text;
  reloads @1 :List(Reload);          # oldest first

  struct Reload {
    generation @0 :UInt64;
    successor @1 :UInt64;            # 0: none
    trigger @2 :Text;
    strategy @3 :Text;
    outcome @4 :Text;
    reason @5 :Text;
    verdict @6 :Text;
    overridden @7 :Bool;
    startedUnixMs @8 :UInt64;
    ns @9 :UInt64;                   # of all states
    gapNs @10 :UInt64;               # as measured
    gapStartNs @11 :UInt64;          # nobody served from here
    gapEndNs @12 :UInt64;            # to here; equal: somebody always did
    states @13 :List(State);         # each starts where the one before ends; without the last, SERVING or STOPPED
  }
  struct State {
    state @0 :Text;
    startNs @1 :UInt64;
    ns @2 :UInt64;
    served @3 :Bool;                 # by somebody
  }
}

# shmctl doctor
struct DoctorReport {
  checks @0 :List(Check);            # in the order of the text
  failed @1 :UInt32;                 # how many have the level FAIL

  struct Check {
    level @0 :Text;                  # "ok", "warn", "FAIL"
    name @1 :Text;
    found @2 :Text;
    remedy @3 :Text;                 # empty where there is nothing to do
  }
}

# shmctl infer N
struct InferReport {
  server @0 :Text;
  generation @1 :UInt64;             # of the worker that answered
  serviceNs @2 :UInt64;              # time in the model
  outputs @3 :List(TensorValue);     # in the order of the signature
}

struct TensorValue {
  name @0 :Text;
  dtype @1 :Text;
  shape @2 :List(Int64);
  values @3 :Values;                 # row-major and flat; empty when they went into a file
  file @4 :Text;                     # where --output-dir put it; else empty
  omitted @5 :Bool;                  # too many to print: ask for files
}

# In JSON a plain array: of numbers, of true and false, or of strings where the
# dtype has 64-bit integers.
struct Values {
  union {
    numbers @0 :List(Float64);
    flags @1 :List(Bool);
    integers @2 :List(Int64);
    naturals @3 :List(UInt64);
  }
}

# shmctl bench N
struct BenchReport {
  server @0 :Text;
  seconds @1 :Float64;               # measured, to the end of the last request
  concurrency @2 :UInt32;
  requests @3 :UInt64;               # succeeded + failed
  succeeded @4 :UInt64;
  failed @5 :UInt64;
  ratePerSecond @6 :Float64;         # succeeded ones
  latencyUs @7 :Latency;             # of those that succeeded
  generations @8 :List(GenerationCount);
  errors @9 :List(ErrorCount);
  inputBytes @10 :UInt64;            # of one request's tensors
  outputBytes @11 :UInt64;           # of the last response's tensors

  struct Latency {
    min @0 :Float64;
    mean @1 :Float64;
    p50 @2 :Float64;
    p90 @3 :Float64;
    p99 @4 :Float64;
    p999 @5 :Float64;
    max @6 :Float64;
  }
  struct GenerationCount {
    generation @0 :UInt64;
    requests @1 :UInt64;             # that it answered
  }
  struct ErrorCount {
    code @0 :Text;                   # "UNAVAILABLE", ...
    count @1 :UInt64;
    example @2 :Text;                # the first one's message
  }
}
