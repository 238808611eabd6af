/**
 * The laws of the ports, as a suite for an implementation of your own: what the runtime relies on, law by law. Every
 * engine of Millrace passes them. They are tests of `@effect/vitest`, which your project has to have; call one of these
 * at the top of a test file:
 *
 *     Laws.all("my engine", myEngine)
 *
 * The layer is shared by the laws of a port, which use other names each. Those of the coordinator build it for each law,
 * and each time it has to be empty.
 */
import type { Broker } from "../Broker.ts"
import type { Coordinator } from "../Coordinator.ts"
import type { JobStore } from "../JobStore.ts"
import type { TableStore } from "../TableStore.ts"
import { brokerLaws } from "./broker.ts"
import { coordinatorLaws } from "./coordinator.ts"
import { jobStoreLaws } from "./jobStore.ts"
import type { Options, Suite } from "./suite.ts"
import { tableStoreLaws } from "./tableStore.ts"

export type { Options, Suite }

/** Appends, reads, numbered commits and their fences, retention, parking, the outbox, replies, starts, windows. */
export const broker: Suite<Broker | TableStore> = brokerLaws

/** Rows as the last commit left them: looked up, listed, those that expire, windows. */
export const tableStore: Suite<Broker | TableStore> = tableStoreLaws

/** Ownership: leases, balance, settling, epochs and statements, quarantine, ticks of the leader, reports of workers. */
export const coordinator: Suite<Coordinator> = coordinatorLaws

/** Queues: claims and settlements, priorities, groups, limits, delays, results, parents and children, recurrences. */
export const jobStore: Suite<JobStore> = jobStoreLaws

/** The laws of all ports. */
export const all: Suite<Broker | Coordinator | JobStore | TableStore> = (name, layer, options) => {
  broker(name, layer, options)
  tableStore(name, layer, options)
  coordinator(name, layer, options)
  jobStore(name, layer, options)
}
