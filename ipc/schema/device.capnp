@0xe1a7c3b5d9f20614;
# A generation's device memory, as its owner hands it out.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("baton::ipc::schema");

# The token of an ArenaExport whose memory no file descriptor stands for. A
# worker tells of itself first, without a handle, before it takes any device
# memory: from then on whoever confirms knows what to look for.
struct DeviceHandle {
  transport @0 :Transport;
  handle @1 :Data;         # cudaIpc: the driver's 64 bytes; empty: not exported (yet)
  baseOffset @2 :UInt64;   # of the arena in what the handle names
  bytes @3 :UInt64;
  deviceUuid @4 :Data;     # 16 bytes
  ordinal @5 :UInt32;      # as the owner counts devices
  generation @6 :UInt64;
  pid @7 :Int32;           # of the owner
  startTime @8 :UInt64;    # of that process, in clock ticks since boot

  enum Transport {
    cudaIpc @0;            # a handle, opened once per process
    cudaVmm @1;            # a file descriptor travels beside
  }
}
