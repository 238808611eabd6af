/**
 * Every failure that Millrace itself raises, as tagged errors. What your own handlers fail with is yours; these are what
 * the engine, the codecs and the runtime add. Each message says what was wrong, where, and what to do about it.
 */
import { Cause, Data, Schema } from "effect"

/** The engine cannot be reached, or refused an operation. The runtime retries it; policies never meet it. */
export class EngineError extends Schema.TaggedError<EngineError>()("EngineError", {
  operation: Schema.String,
  reason: Schema.Literals(["Unreachable", "Refused", "Full", "Unsupported"]),
  detail: Schema.String,
  cause: Schema.optionalKey(Schema.Defect())
}) {
  override get message(): string {
    return `${this.operation}: ${this.detail}`
  }
}

/** A stored entry that does not fit the schema, cannot be deserialized, or is too large. Carries the raw bytes. */
export class DecodeError extends Schema.TaggedError<DecodeError>()("DecodeError", {
  topic: Schema.String,
  partition: Schema.Int,
  offset: Schema.String,
  reason: Schema.Literals(["Schema", "Serializer", "TooLarge"]),
  detail: Schema.String,
  bytes: Schema.Uint8Array
}) {
  override get message(): string {
    return `${this.topic}/${this.partition}@${this.offset} cannot be decoded (${this.reason}): ${this.detail}`
  }
}

/** A value refused before it was stored: by its schema, its serializer, its key function, its size or a middleware. */
export class EncodeError extends Schema.TaggedError<EncodeError>()("EncodeError", {
  target: Schema.String,
  reason: Schema.Literals(["Schema", "Serializer", "Key", "TooLarge", "Refused"]),
  detail: Schema.String
}) {
  override get message(): string {
    return `a value for ${this.target} was refused (${this.reason}): ${this.detail}`
  }
}

/**
 * A handler staged more than one commit carries: 5,000 rows and emitted events, or 1 MiB in more than one of them. None of
 * it was stored.
 */
export class UnitTooLarge extends Schema.TaggedError<UnitTooLarge>()("UnitTooLarge", {
  processor: Schema.String,
  partition: Schema.Int,
  offset: Schema.String,
  writes: Schema.Int,
  bytes: Schema.Int
}) {
  override get message(): string {
    return (
      `${this.processor}/${this.partition}@${this.offset} staged ${this.writes} writes of ${this.bytes} bytes; one unit of ` +
      `work holds 5,000 writes and 1 MiB: use smaller batches or values, or Topic.publishAll for output that may be repeated`
    )
  }
}

/** The partition holds as many unconsumed events as it may; `heldBy` is the processor that holds the floor. */
export class TopicFull extends Schema.TaggedError<TopicFull>()("TopicFull", {
  topic: Schema.String,
  partition: Schema.Int,
  heldBy: Schema.optionalKey(Schema.String)
}) {
  override get message(): string {
    const holder =
      this.heldBy === undefined
        ? "no processor is registered, so nothing counts as consumed"
        : `processor "${this.heldBy}" has not committed them`
    return `${this.topic}/${this.partition} is at its capacity: ${holder}; run that processor, remove it, or raise the capacity`
  }
}

/** An explicit offset is not above the partition's last; nothing of that partition's part of the call was stored. */
export class OffsetConflict extends Schema.TaggedError<OffsetConflict>()("OffsetConflict", {
  topic: Schema.String,
  partition: Schema.Int,
  last: Schema.String
}) {
  override get message(): string {
    return `${this.topic}/${this.partition}: an explicit offset must be above the last one, ${this.last}; nothing was stored there`
  }
}

/** Stored, but on fewer replicas or disks than asked for. It is not sent again. */
export class DurabilityNotReached extends Schema.TaggedError<DurabilityNotReached>()("DurabilityNotReached", {
  wanted: Schema.Int,
  reached: Schema.Int
}) {
  override get message(): string {
    return `stored, but safe in ${this.reached} of ${this.wanted} places; do not publish it again`
  }
}

/** Events that this reader had not seen were trimmed away. */
export class EventsLost extends Schema.TaggedError<EventsLost>()("EventsLost", {
  topic: Schema.String,
  partition: Schema.Int,
  first: Schema.String,
  last: Schema.String,
  entries: Schema.Int
}) {
  override get message(): string {
    return (
      `${this.topic}/${this.partition}: ${this.entries} unread entries from ${this.first} to ${this.last} were trimmed; ` +
      `go on with what is left by onLost: "resume" (a processor) or from: "earliest" (a stream), or choose a retention ` +
      `that keeps more`
    )
  }
}

/** The log ends before the committed offset: a failover took acknowledged events back. */
export class LogTruncated extends Schema.TaggedError<LogTruncated>()("LogTruncated", {
  topic: Schema.String,
  partition: Schema.Int,
  committed: Schema.String,
  end: Schema.String
}) {
  override get message(): string {
    return (
      `${this.topic}/${this.partition} ends at ${this.end}, before the committed offset ${this.committed}: ` +
      `the server lost events that it had acknowledged`
    )
  }
}

/** The server lost commits that it had acknowledged; both commit numbers. */
export class WentBack extends Schema.TaggedError<WentBack>()("WentBack", {
  processor: Schema.String,
  partition: Schema.Int,
  expected: Schema.Int,
  found: Schema.Int
}) {
  override get message(): string {
    return (
      `${this.processor}/${this.partition}: the server is at commit ${this.found}, ${this.expected} was expected: ` +
      `it lost acknowledged commits; the lost part is handled again`
    )
  }
}

/**
 * A job that ended with neither success nor its typed error. `Forgotten`: its result is not kept any more; `Child`: one
 * that it waited for did not end well.
 */
export class JobFailed extends Schema.TaggedError<JobFailed>()("JobFailed", {
  job: Schema.String,
  id: Schema.String,
  reason: Schema.Literals([
    "Timeout",
    "Defect",
    "Cancelled",
    "Expired",
    "Lost",
    "Buried",
    "Undecodable",
    "Child",
    "Forgotten"
  ]),
  detail: Schema.String
}) {
  override get message(): string {
    return `job ${this.job} (${this.id}) ended: ${this.reason}${this.detail === "" ? "" : `: ${this.detail}`}`
  }
}

/** Another start under this member name has taken over; this worker stops at once. */
export class MemberReplaced extends Schema.TaggedError<MemberReplaced>()("MemberReplaced", {
  member: Schema.String
}) {
  override get message(): string {
    return `another process runs as member "${this.member}"; give each process its own name`
  }
}

/** Options contradict each other or what is stored: partition counts, two parts of one name, an undeclared topic. */
export class Misconfigured extends Schema.TaggedError<Misconfigured>()("Misconfigured", {
  reason: Schema.Literals(["LayoutMismatch", "PartitionsMismatch", "DuplicateName", "Undeclared", "InvalidOption"]),
  detail: Schema.String
}) {
  override get message(): string {
    return `${this.reason}: ${this.detail}`
  }
}

/** A name that nobody has declared here, or something that is not there (any more); `known` is what there is instead. */
export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", {
  kind: Schema.String,
  name: Schema.String,
  known: Schema.Array(Schema.String)
}) {
  override get message(): string {
    const others = this.known.slice(0, 20).join(", ")
    const there = this.known.length === 0 ? "" : `; there are ${others}${this.known.length > 20 ? ", ..." : ""}`
    return `there is no ${this.kind} ${JSON.stringify(this.name)}${there}`
  }
}

/** No reply in time. The request may still be handled; its reply is dropped then. */
export class AgentTimeout extends Schema.TaggedError<AgentTimeout>()("AgentTimeout", {
  agent: Schema.String,
  millis: Schema.Finite
}) {
  override get message(): string {
    return (
      `agent "${this.agent}" gave no reply within ${this.millis} ms: run a worker with its handler (Agent.handler), or ask ` +
      `with a longer timeout; the request may still be handled`
    )
  }
}

/** The agent's handler died, or failed with an error that its contract does not declare; it goes on with the next request. */
export class AgentDefect extends Schema.TaggedError<AgentDefect>()("AgentDefect", {
  agent: Schema.String,
  cause: Schema.Defect()
}) {
  override get message(): string {
    const reason = this.cause instanceof Error ? `${this.cause.name}: ${this.cause.message}` : String(this.cause)
    return `agent "${this.agent}" could not handle the request (its log says more): ${reason}`
  }
}

/** An ask from inside a handler that only its own partition could answer, which waits for that very handler. */
export class AskCycle extends Schema.TaggedError<AskCycle>()("AskCycle", {
  agent: Schema.String,
  partition: Schema.Int
}) {
  override get message(): string {
    return (
      `a handler of agent "${this.agent}" asks its own partition ${this.partition}, which waits for this handler: ` +
      `use Agent.cast, or another agent`
    )
  }
}

/** A run of a probe did not get a signal that it waits for: what sends it is late, or does not run. */
export class SignalTimeout extends Schema.TaggedError<SignalTimeout>()("SignalTimeout", {
  probe: Schema.String,
  run: Schema.String,
  signal: Schema.String,
  millis: Schema.Number
}) {
  override get message(): string {
    return (
      `run ${this.run} of probe "${this.probe}" had no signal "${this.signal}" within ${this.millis} ms: see what became ` +
      `of ${this.run} on its way to Probe.signal`
    )
  }
}

/**
 * A failure that no policy took, or a defect. Defects are always possible, so a worker always has it in its type.
 * `EventsLost`, `LogTruncated` and `WentBack` arise between events: no policy can settle them (see `onLost`).
 */
export class ProcessorHalted<out E> extends Data.TaggedError("ProcessorHalted")<{
  readonly processor: string
  readonly partition: number
  readonly offset: string
}> {
  override readonly cause: Cause.Cause<E | BetweenEvents>
  constructor(fields: {
    readonly processor: string
    readonly partition: number
    readonly offset: string
    readonly cause: Cause.Cause<E | BetweenEvents>
  }) {
    super(fields)
    this.cause = fields.cause
  }
  override get message(): string {
    const error = Cause.squash(this.cause)
    const reason = error instanceof Error ? `${error.name}: ${error.message}` : String(error)
    return `processor "${this.processor}" halted at partition ${this.partition}, offset ${this.offset}: ${reason}`
  }
}

/** What can go wrong with a partition between two events. */
export type BetweenEvents = EventsLost | LogTruncated | WentBack
