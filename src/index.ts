/**
 * Millrace: durable, partitioned, strictly ordered event streams for Effect, on Redis or on an embedded SQLite engine.
 * Each export is a module: `Topic.make`, `Processor.make`, `Worker.run`.
 */

/** What can be seen and done from outside, by name. */
export * as Admin from "./Admin.ts"
/** An address that answers: cast to it, ask it. */
export * as Agent from "./Agent.ts"
/** Parts under a name. */
export * as App from "./App.ts"
/** The port of the logs. */
export * as Broker from "./Broker.ts"
/** The port of ownership. */
export * as Coordinator from "./Coordinator.ts"
/** Layers with all that a worker needs: memory, a file, Redis, or what `MILLRACE_URL` says. */
export * as Engine from "./Engine.ts"
/** Every failure that Millrace itself raises. */
export * as Errors from "./Errors.ts"
/** One record of a partition, and the operators that keep the books of streams of them. */
export * as Event from "./Event.ts"
/** One piece of work on a queue. */
export * as Job from "./Job.ts"
/** The port of the queues. */
export * as JobStore from "./JobStore.ts"
/** What belongs together in two topics, or in a topic and a table. */
export * as Join from "./Join.ts"
/** What workers and publishers measure. */
export * as Metrics from "./Metrics.ts"
/** Something a worker runs. */
export * as Part from "./Part.ts"
/** Key and partition count to partition. */
export * as Partitioner from "./Partitioner.ts"
/** What becomes of an event whose handling failed. */
export * as Policy from "./Policy.ts"
/** Checks of a running system, from one end to the other. */
export * as Probe from "./Probe.ts"
/** Named code over the events of a topic. */
export * as Processor from "./Processor.ts"
/** The jobs of a queue as a whole. */
export * as Queue from "./Queue.ts"
/** The Redis engine, layer by layer. */
export * as Redis from "./Redis.ts"
/** What a partition keeps. */
export * as Retention from "./Retention.ts"
/** Tasks, timers and cron entries, on every worker or on the leader. */
export * as Scheduler from "./Scheduler.ts"
/** Hooks on what workers and publishers do. */
export * as Sensor from "./Sensor.ts"
/** How values become bytes. */
export * as Serializer from "./Serializer.ts"
/** What workers and processors use where they are not told otherwise. */
export * as Settings from "./Settings.ts"
/** Keyed state of a processor. */
export * as Table from "./Table.ts"
/** The port of the tables. */
export * as TableStore from "./TableStore.ts"
/** A named, durable log split into partitions. */
export * as Topic from "./Topic.ts"
/** Traces that go on across processes. */
export * as Tracing from "./Tracing.ts"
/** How time is cut into spans. */
export * as Window from "./Window.ts"
/** Runs parts. */
export * as Worker from "./Worker.ts"
