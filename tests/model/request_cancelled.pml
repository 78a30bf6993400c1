/* SYNC: request_cancelled: what a front calls "not started" never is (R2).
 *
 *   front, which gives up             worker, which gathers a batch
 *   the request's flag = 1            for each request: taken = its number
 *   count + 1 (release)               fence (seq_cst), one for all of them
 *   fence (seq_cst)                   for each: count is another one? then the
 *   taken? no: "not started"            flag of each request that follows
 *                                     flag up: left out; else it is run
 *
 * Store buffers as in worker_sleep.pml: of each side first in, first out. With
 * one request in a batch it is the protocol of a worker that does not batch. A
 * request that was both run and called not started leaves the front stuck: an
 * invalid end state.
 *
 * Mutants, which must fail: -DNO_FRONT_FENCE, -DNO_WORKER_FENCE, -DLOOK_FIRST
 * (the worker looks before it says that it has taken them).
 */
#define REQUESTS 2

byte taken;          /* memory, the worker's: how many */
byte count;          /* memory, the front's */
bit flag[REQUESTS];  /* memory, the front's */
bit ran[REQUESTS];   /* the worker's, for the check alone */
bit gone[REQUESTS];  /* the front's: it has said "not started" */
bit done;            /* the worker has been through all of them */

mtype = { Flag, Count };
chan worker_stores = [REQUESTS] of { byte };
chan front_stores = [4] of { mtype, byte };

active proctype Memory() {
  byte value;
end:
  do
  :: atomic { worker_stores?value -> taken = value }
  :: atomic { front_stores?Flag, value -> flag[value] = 1 }
  :: atomic { front_stores?Count, value -> count = value }
  od
}

inline Take() {
  r = 0;
  do
  :: r < REQUESTS -> r++; worker_stores!r
  :: else -> break
  od
}

active proctype Worker() {
  byte r;
  byte seen = 0;
  bit check = 0;
  bit runs[REQUESTS];
#ifndef LOOK_FIRST
  Take();
#endif
#ifndef NO_WORKER_FENCE
  empty(worker_stores);
#endif
  r = 0;
  do
  :: r < REQUESTS ->
    if
    :: count != seen -> seen = count; check = 1
    :: else
    fi;
    if
    :: check && flag[r]
    :: else -> runs[r] = 1
    fi;
    r++
  :: else -> break
  od;
#ifdef LOOK_FIRST
  Take();
#endif
  r = 0;
  do
  :: r < REQUESTS -> ran[r] = runs[r]; r++
  :: else -> break
  od;
  done = 1
}

active proctype Front() {
  byte r = 0;
  byte given_up = 0;
  do
  :: r < REQUESTS ->
    if
    :: skip /* it goes on waiting for this one */
    :: given_up++;
      front_stores!Flag, r;
      front_stores!Count, given_up;
#ifndef NO_FRONT_FENCE
      empty(front_stores);
#endif
      if
      :: taken <= r -> gone[r] = 1
      :: else
      fi
    fi;
    r++
  :: else -> break
  od;
  done;
  r = 0;
  do
  :: r < REQUESTS -> !(ran[r] && gone[r]); r++
  :: else -> break
  od
}
