@0xd9c5e3f406172839;
# Everything said over the control sockets: one Envelope a packet, file
# descriptors beside it (SCM_RIGHTS) in the order that each message names.
# The data plane never passes here.

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("baton::ipc::schema");

using Signature = import "tensor.capnp".Signature;
using Method = import "tensor.capnp".Method;
using Receipt = import "receipt.capnp".Receipt;

const protocolVersion :UInt32 = 1;

struct Error {
  code @0 :UInt32;      # absl::StatusCode; 0: ok
  message @1 :Text;
}

struct Envelope {
  call @0 :UInt64;      # chosen by the asker, repeated in the answer; 0: no answer expected

  union {
    error @1 :Error;                 # answer to any call that failed

    # ---- anyone -> supervisor
    hello @2 :Hello;                 # first packet of every connection
    status @3 :Void;
    reload @4 :Reload;
    stop @5 :Void;
    openChannel @6 :OpenChannel;     # fds: submission (read-only), completion (read-write), eventfd if hasEvent
    closeChannel @7 :ChannelRef;
    importsClosed @8 :GenerationRef; # front: no mapping of that generation is left
    imported @9 :Imported;

    # ---- supervisor -> front or client
    welcome @10 :Welcome;            # fds to fronts: status page, worker page (both read-only), doorbell eventfd
    statusReply @11 :ServerStatus;
    reloadReply @12 :ReloadReply;
    done @13 :Void;                  # stop accepted; channel closed
    channelOpened @14 :ChannelOpened;
    importArena @15 :ArenaExport;    # fds: the arena's (host device)
    closeImports @16 :GenerationRef;

    # ---- supervisor -> worker
    start @17 :Start;                # fds: worker page (read-write), doorbell eventfd, secrets memfd,
                                     # one to hold for life
    admit @18 :Admit;
    addChannel @19 :AddChannel;      # fds: as in openChannel
    removeChannel @20 :ChannelRef;
    serve @21 :Void;                 # take requests from now on; also ends a hold
    hold @22 :Void;                  # take nothing new; answer `held` when nothing is in flight
    exit @23 :Void;                  # cleanup(), free, exit 0

    # ---- worker -> supervisor
    staged @24 :Staged;
    ready @25 :ArenaExport;          # uploaded, warmed up; on a GPU with the handle to import it by,
                                     # and the fd of memory that is exported as one
    failed @26 :Error;               # staging or admission failed; the worker exits
    channelAdded @27 :ChannelRef;
    channelRemoved @28 :ChannelRef;
    channelRefused @29 :ChannelRefused;
    held @30 :Void;
    arena @31 :ArenaExport;          # sent before any model code may touch it: it has allocated (fds: the
                                     # arena's), or is about to (on a GPU)

    # ---- device leases: supervisor -> front, and the front's answers
    generationClosing @32 :GenerationRef; # a drain has begun: take no new lease, answer `leases`
    generationKept @33 :GenerationRef;    # it was called off: that generation serves on
    leases @34 :Leases;              # front: at once when asked, and again (same call) when the last one is returned

    # ---- dry run
    planReload @35 :Void;
    reloadPlan @36 :ReloadPlan;

    # ---- supervisor -> confirmation helper, and back
    confirm @37 :Confirm;            # fds: the arena's
    verdict @38 :Verdict;
    survey @39 :Survey;              # only while a generation serves, never in a gap
    surveyed @40 :Surveyed;
  }
}

struct Hello {
  protocolVersion @0 :UInt32;
  role @1 :Role;
  program @2 :Text;
  wantsDevice @3 :Bool;              # front: import each generation's device arena

  enum Role {
    front @0;
    client @1;
  }
}

struct Welcome {
  protocolVersion @0 :UInt32;
  server @1 :Text;
  generation @2 :UInt64;
  signature @3 :Signature;
  maxRequestBytes @4 :UInt64;
  methods @5 :List(Method);          # none: one, "predict", of `signature`; else the first is of it
}

struct OpenChannel {
  ringEntries @0 :UInt32;
  submissionBytes @1 :UInt64;
  completionBytes @2 :UInt64;
  hasEvent @3 :Bool;                 # the front waits in an epoll loop of its own
  deviceBytes @4 :UInt64;            # a slice of this size for results on the device; 0: none
  deviceInputBytes @5 :UInt64;       # and one for inputs there; 0: none
}
struct ChannelOpened {
  channel @0 :UInt64;
  deviceOffset @1 :UInt64;           # of its slice in the arena of every generation
  deviceInputOffset @2 :UInt64;      # of its slice for inputs
}

struct ChannelRef { channel @0 :UInt64; }
struct GenerationRef { generation @0 :UInt64; }
struct ChannelRefused { channel @0 :UInt64; error @1 :Error; }
struct Imported { generation @0 :UInt64; error @1 :Error; }
# What a front still holds of a generation's device memory. No entry: nothing.
struct Leases {
  generation @0 :UInt64;
  held @1 :List(Held);
  struct Held {
    channel @0 :UInt64;
    count @1 :UInt32;
  }
}

# The supervisor asks its helper, which may hang in the kernel or in a driver in its place.
struct Confirm {
  generation @0 :UInt64;
  bytes @1 :UInt64;
  token @2 :Data;
  nameHolders @3 :Bool;              # also look for who pins it: slow
  askedBefore @4 :Bool;              # a helper that was asked before may have sealed it
  gpu @5 :GpuQuestion;               # of an arena on a GPU; null on the host device
}

# What confirming needs to know of an arena that no local kernel object counts.
struct GpuQuestion {
  device @0 :Data;                   # its UUID, 16 bytes
  owner @1 :Process;                 # the worker, which was reaped
  successorPid @2 :Int32;            # 0: none
  neededBytes @3 :UInt64;            # what the successor is going to allocate, rounded up
  importers @4 :List(Importer);      # every process that was sent the arena
  baseline @5 :GpuSurvey;            # taken while the owner lived; null: there is none

  struct Process {
    pid @0 :Int32;                   # 0: of a pid namespace that cannot be seen from here
    startTime @1 :UInt64;            # clock ticks since boot
  }
  struct Importer {
    process @0 :Process;
    state @1 :State;                 # whether the process has ended the helper sees itself
    enum State {
      open @0;
      left @1;                       # hung up, and has not said that it had closed
      closed @2;
    }
  }
}

struct Survey {
  generation @0 :UInt64;             # the one that serves; repeated in the answer
  device @1 :Data;
}
struct Surveyed {
  generation @0 :UInt64;
  survey @1 :GpuSurvey;
}

# What NVML said of one GPU at one moment. What is not known says why.
struct GpuSurvey {
  memoryKnown @0 :Bool;
  memoryError @1 :Error;
  totalBytes @2 :UInt64;
  freeBytes @3 :UInt64;
  processesKnown @4 :Bool;
  processesError @5 :Error;
  processes @6 :List(Process);
  migKnown @7 :Bool;
  migError @8 :Error;
  mig @9 :Bool;

  struct Process {
    pid @0 :Int32;
    bytesKnown @1 :Bool;
    bytes @2 :UInt64;
  }
}

struct Verdict {
  generation @0 :UInt64;
  verdict @1 :Kind;
  holders @2 :List(Int32);           # pids that map it, as far as they could be seen
  source @3 :Text;                   # how it is known
  detail @4 :Text;                   # why it is not known, when it is not

  enum Kind {
    unknown @0;
    freed @1;
    stillMapped @2;
    driverHeld @3;                   # nobody maps it, and the device does not give it back
  }
}

struct Reload {
  trigger @0 :Text;
  overrideUnconfirmed @1 :Bool;      # go on although the old generation's memory is not confirmed freed
}

# What a reload would do now, and on what grounds.
struct ReloadPlan {
  strategy @0 :Text;                 # what would be used: "exclusive", "overlap"
  strategyReason @1 :Text;
  state @2 :Text;                    # of the server now; a reload starts in SERVING
  generation @3 :UInt64;
  footprintBytes @4 :UInt64;         # device bytes of one generation, as measured
  footprintSource @5 :Text;
  deviceBytesInUse @6 :UInt64;
  deviceCapacityBytes @7 :UInt64;
  expectedGapNs @8 :UInt64;          # 0: none measured yet
  gapSource @9 :Text;
  secretsChanged @10 :Bool;          # since the generation that serves was started
  requestsWaiting @11 :UInt64;       # in the rings now
  fronts @12 :UInt32;
  channels @13 :UInt32;
  importers @14 :UInt32;             # fronts that map the device arena
  deadlines @15 :List(Deadline);
  obstacles @16 :List(Text);         # what would keep it from going well, as far as can be seen now

  struct Deadline {
    name @0 :Text;                   # "drain_timeout"
    ns @1 :UInt64;
  }
}
struct ReloadReply { error @0 :Error; receipt @1 :Receipt; }

struct ArenaExport {
  generation @0 :UInt64;
  bytes @1 :UInt64;
  token @2 :Data;                    # device handle; empty on the host device
}

struct Start {
  server @0 :Text;
  generation @1 :UInt64;
  directory @2 :Text;                # model directory
  secretsBytes @3 :UInt64;           # size of the snapshot in the secrets memfd
  device @4 :Text;                   # in place of the one in config.yaml; empty: that one
}

struct Admit { capacityBytes @0 :UInt64; }

struct AddChannel {
  channel @0 :UInt64;
  submissionBytes @1 :UInt64;
  completionBytes @2 :UInt64;
  hasEvent @3 :Bool;
  deviceOffset @4 :UInt64;           # of its slice for results in the arena
  deviceBytes @5 :UInt64;            # of that slice; 0: none
  deviceInputOffset @6 :UInt64;      # the same of its slice for inputs
  deviceInputBytes @7 :UInt64;
}

struct Staged {
  signature @0 :Signature;
  deviceBytes @1 :UInt64;            # what its arena will take
  maxRequestBytes @2 :UInt64;
  deviceTotalBytes @3 :UInt64;       # of the whole device; 0: the supervisor knows better
  deviceResultsBytes @4 :UInt64;     # at the start of the arena, for channels' results and inputs
  methods @5 :List(Method);          # as in Welcome
}

# What a worker starts from, in the sealed memfd that `start` carries.
struct Secrets {
  entries @0 :List(Entry);
  config @1 :Text;                   # config.yaml, the newest or the last good one
  struct Entry {
    key @0 :Text;
    value @1 :Data;
  }
}

struct ServerStatus {
  server @0 :Text;
  directory @1 :Text;
  loader @2 :Text;
  device @3 :Text;
  state @4 :Text;                    # SERVING, STAGING, ...
  reason @5 :Text;                   # why it is not serving, or why the last reload kept the old worker
  generation @6 :UInt64;
  live @7 :Bool;
  ready @8 :Bool;
  started @9 :Bool;
  supervisorPid @10 :Int32;
  workerPid @11 :Int32;
  workerRestarts @12 :UInt64;
  reloads @13 :UInt64;
  channels @14 :UInt32;
  fronts @15 :UInt32;
  requestsTaken @16 :UInt64;
  requestsCompleted @17 :UInt64;
  deviceBytes @18 :UInt64;
  deviceCapacityBytes @19 :UInt64;
  expectedGapNs @20 :UInt64;
  uptimeNs @21 :UInt64;
  lastVerdict @22 :Text;
  secretsReload @23 :Bool;
  strategy @24 :Text;                # as configured: "exclusive", "overlap", "auto"
  lastGapNs @25 :UInt64;             # 0: none measured yet
  gapsMeasured @26 :UInt64;
  unconfirmedPolicy @27 :Text;       # "hold", "override"
  failuresInARow @28 :UInt64;
  retryInNs @29 :UInt64;             # until the next worker is tried; 0: none is waited for
  modelWatch @30 :Bool;              # code and weights are watched
  helperPid @31 :Int32;              # of the confirmation helper; 0: there is none now
  batches @32 :UInt64;               # calls of the model for requests that were gathered
  batchRows @33 :UInt64;             # that they had together
}
