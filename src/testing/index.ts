/** The testing kit: `import { Faults, JobSimulation, Simulation, TestAgent, TestJob, TestProcessor } from "millrace/testing"`. */

/** Faults around the ports of any engine: errors, delays, lost answers, duplicates. */
export * as Faults from "./Faults.ts"
/** Judges what an engine accepted and what handlers saw: lost, out of order, repeated, accepted from an old owner. */
export * as History from "./History.ts"
/** Several workers and their jobs on virtual time, with crashes, pauses and lost answers that a seed decides. */
export * as JobSimulation from "./JobSimulation.ts"
/** Several workers on virtual time, with crashes, pauses and lost answers that a seed decides. */
export * as Simulation from "./Simulation.ts"
/** Agents, one request at a time or all that wait, without a worker or an engine of your own. */
export * as TestAgent from "./TestAgent.ts"
/** Handlers of jobs, one run at a time or all that are ready, without a worker or an engine of your own. */
export * as TestJob from "./TestJob.ts"
/** Run one processor over given events, without a worker or an engine. */
export * as TestProcessor from "./TestProcessor.ts"
