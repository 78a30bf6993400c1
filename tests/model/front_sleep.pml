/* SYNC: front_sleeps: a front that waits for a completion is woken (R3).
 *
 *   front                                worker
 *   w = wake_count                       publish the completion (release)
 *   sleeping = 1                         fence (seq_cst)
 *   fence (seq_cst)                      sleeping? wake_count++, FUTEX_WAKE
 *   look at the ring; nothing:
 *     FUTEX_WAIT(wake_count == w)
 *   sleeping = 0
 *
 * Store buffers as in worker_sleep.pml. FUTEX_WAIT compares and goes to sleep
 * in one step, FUTEX_WAKE has a full barrier before it looks for sleepers: both
 * are promises of the kernel. The timeout of the real wait is left out, so a
 * lost wake-up is a front that is stuck: an invalid end state.
 *
 * Mutants, which must fail: -DNO_FRONT_FENCE, -DNO_WORKER_FENCE,
 * -DNO_RECHECK, -DNO_COUNT (the worker wakes without counting),
 * -DLATE_COUNT (the front reads the count after it looked at the ring).
 */
#define COMPLETIONS 3

byte published;  /* memory, the worker's */
byte wake_count; /* memory, the worker's; the futex word */
bit sleeping;    /* memory, the front's */
bit waiting;     /* kernel: the front is in FUTEX_WAIT */
byte asked = 1;  /* requests sent; the front keeps up to two outstanding */

mtype = { Published, WakeCount };
chan worker_stores = [4] of { mtype, byte };
chan front_stores = [4] of { bit };

active proctype Memory() {
  byte value;
  bit flag;
end:
  do
  :: atomic { worker_stores?Published, value -> published = value }
  :: atomic { worker_stores?WakeCount, value -> wake_count = value }
  :: atomic { front_stores?flag -> sleeping = flag }
  od
}

active proctype Worker() {
  byte next = 0;
  byte count = 0; /* the worker alone writes wake_count, so it knows it */
  do
  :: next < COMPLETIONS ->
    next < asked + 1; /* a completion answers a request */
    next++;
    worker_stores!Published, next;
#ifndef NO_WORKER_FENCE
    empty(worker_stores);
#endif
    if
    :: sleeping ->
#ifndef NO_COUNT
      count++;
      worker_stores!WakeCount, count;
#endif
      empty(worker_stores); /* FUTEX_WAKE's own barrier */
      waiting = 0
    :: else
    fi
  :: else -> break
  od
}

active proctype Front() {
  byte got = 0;
  byte w;
  do
  :: got == COMPLETIONS -> break
  :: else ->
    if
    :: published > got -> got++; asked++
    :: else ->
#ifndef LATE_COUNT
      w = wake_count;
#endif
      front_stores!1;
#ifndef NO_FRONT_FENCE
      empty(front_stores);
#endif
#ifndef NO_RECHECK
      if
      :: published > got
      :: else
#endif
#ifdef LATE_COUNT
        w = wake_count;
#endif
        atomic { /* FUTEX_WAIT */
          if
          :: wake_count == w -> waiting = 1
          :: else
          fi
        };
        waiting == 0
#ifndef NO_RECHECK
      fi
#endif
      ;
      front_stores!0
    fi
  od
}
