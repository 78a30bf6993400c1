@0xc8b4d2e3f5061728;
# The record that proves that a generation's device memory was freed. One JSON
# line each in the server's receipts file, made from this type.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("baton::ipc::schema");

struct Receipt {
  generation @0 :UInt64;         # the generation that ended (or was meant to)
  successor @1 :UInt64;          # the generation that serves after it; 0: none
  trigger @2 :Text;              # "secrets", "model", "command", "worker-death", "stop"
  strategy @3 :Text;             # "exclusive", "overlap"
  outcome @4 :Text;              # "swapped", "kept-old", "stopped", "failed"
  reason @5 :Text;               # why, when the outcome is not "swapped"
  verdict @6 :Text;              # "freed", "pinned-by <pid>", "driver-held", "unknown", "none"
  verdictSource @7 :Text;        # how the verdict is known
  startedUnixMs @8 :UInt64;
  states @9 :List(StateTime);    # in the order they were entered
  gapNs @10 :UInt64;             # time in which nobody served
  exitKind @11 :Text;            # "exited", "signalled", "none"
  exitCode @12 :Int32;           # exit code or signal number
  importsClosed @13 :UInt32;
  importsCutOff @14 :UInt32;     # fronts that did not answer in time
  deviceBytesBefore @15 :UInt64;
  deviceBytesAfter @16 :UInt64;
  deviceBytesPeak @17 :UInt64;   # most seen at once over all generations, during this reload
  deviceBytesModel @18 :UInt64;  # what one generation of the model holds
  deviceSource @19 :Text;        # who counted
  requestsHeld @20 :UInt64;
  requestsExpired @21 :UInt64;
  requestsFailed @22 :UInt64;
  workerPid @23 :Int32;
  evidence @24 :List(Evidence);  # how each fact is known
  overridden @25 :Bool;          # the successor was admitted although the verdict is not "freed"
  strategyReason @26 :Text;
  successorPid @27 :Int32;
  holders @28 :Text;             # who kept it from draining or from being freed

  struct Evidence {
    fact @0 :Text;               # "worker-exited", "imports-closed", "device-freed", ...
    value @1 :Text;
    source @2 :Text;             # "pidfd and waitid"
  }

  struct StateTime {
    state @0 :Text;
    ns @1 :UInt64;
  }
}
