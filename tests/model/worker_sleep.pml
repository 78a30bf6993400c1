/* SYNC: worker_sleeps (ipc/worker_sleep.h): no wake-up is lost (R3), not even
 * where the worker is killed at any step and the next one takes over.
 *
 * Store buffers are modelled as x86-TSO has them: a store goes into a FIFO of
 * its process, and reaches memory at any later time, in order; a fence waits
 * until the FIFO is empty. No process reads what it writes itself, so loads
 * need not look into the own buffer.
 *
 * The eventfd lives in the kernel: a counter, changed at once. The timeout of
 * the real poll is left out: a wake-up may not be lost and found by a timeout.
 * So a lost wake-up is a worker that is stuck in poll: an invalid end state.
 *
 * Mutants, which must fail: -DNO_FRONT_FENCE, -DNO_WORKER_FENCE,
 * -DNO_RECHECK, -DNO_LOOK_AT_SERVE (the next worker trusts the doorbell).
 */
#define FRONTS 2
#define ENTRIES 2 /* each front publishes that many */

byte published[FRONTS]; /* memory: what each ring shows */
bit sleeping;           /* memory: the worker page */
byte eventfd;           /* kernel */
byte taken[FRONTS];     /* the worker's progress; its order does not matter here */
bit killed;             /* the worker dies at its next step */

chan front_stores[FRONTS] = [1] of { byte }; /* new values of published[i] */
chan worker_stores = [4] of { bit };         /* new values of sleeping */

#define WORK(i) (published[i] > taken[i])
#define ALL_TAKEN (taken[0] == ENTRIES && taken[1] == ENTRIES)

/* Memory takes buffered stores in, in order, at any time. */
active proctype Memory() {
  byte value;
  bit flag;
end:
  do
  :: atomic { front_stores[0]?value -> published[0] = value }
  :: atomic { front_stores[1]?value -> published[1] = value }
  :: atomic { worker_stores?flag -> sleeping = flag }
  od
}

active [FRONTS] proctype Front() {
  byte me = _pid - 1; /* Memory has pid 0 */
  byte next = 0;
  do
  :: next < ENTRIES ->
    next++;
    front_stores[me]!next; /* publish */
#ifndef NO_FRONT_FENCE
    empty(front_stores[me]); /* fence */
#endif
    if
    :: sleeping -> eventfd = 1 /* any number of writes is one wake */
    :: else
    fi
  :: else -> break
  od
}

active proctype Killer() {
  if
  :: killed = 1
  :: skip
  fi
}

active proctype Worker() {
life:
  {
    worker_stores!0; /* serve: the one before may have left it up */
#ifdef NO_LOOK_AT_SERVE
    eventfd > 0; eventfd = 0;
#endif
    do
    :: ALL_TAKEN -> break
    :: else ->
      if /* each ring is looked at in a step of its own */
      :: WORK(0) -> taken[0]++
      :: !WORK(0) ->
        if
        :: WORK(1) -> taken[1]++; goto turn
        :: !WORK(1)
        fi;
        worker_stores!1;
#ifndef NO_WORKER_FENCE
        empty(worker_stores); /* fence */
#endif
#ifndef NO_RECHECK
        if
        :: WORK(0)
        :: !WORK(0) ->
          if
          :: WORK(1) -> goto awake
          :: !WORK(1)
          fi;
#endif
          eventfd > 0;  /* poll */
          eventfd = 0   /* read */
#ifndef NO_RECHECK
        fi
#endif
        ;
awake:
        worker_stores!0
      fi;
turn:
      skip
    od
  } unless {
    killed -> killed = 0; goto life /* the next worker finds `taken` */
  }
}
