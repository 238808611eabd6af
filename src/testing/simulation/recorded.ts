/** A part as one process of a simulation runs it: what its handler begins and ends is written down, and it may be slow. */
import { Effect, Exit, Stream } from "effect"
import type { Event } from "../../Event.ts"
import { around as aroundPart } from "../../internal/run/around.ts"
import { isProcessing } from "../../internal/run/definition.ts"
import type * as Part from "../../Part.ts"
import type { Processor } from "../../Processor.ts"
import type { Happened } from "../History.ts"

export interface Recording {
  /** The process. */
  readonly by: string
  readonly record: (happened: Happened) => void
  /** A handler of jobs has begun. */
  readonly ran: (queue: string, id: string) => void
  /** What a handler waits for before and after its work. */
  readonly delay: () => Effect.Effect<void> | undefined
}

export const recorded = (part: Part.Any, recording: Recording): Part.Any =>
  isProcessing(part)
    ? recordedProcessor(part as Processor<unknown, unknown>, recording)
    : part.job === undefined
      ? part
      : recordedJob(part, recording)

const recordedJob = (part: Part.Any, { delay, ran }: Recording): Part.Any =>
  aroundPart(part, (handle, work) =>
    Effect.suspend(() => {
      if (work._tag === "Job") ran(work.run.queue, work.run.id)
      const [before, after] = [delay(), delay()]
      const done = before === undefined ? handle : Effect.andThen(before, handle)
      return after === undefined ? done : Effect.tap(done, after)
    })
  )

const recordedProcessor = (part: Processor<unknown, unknown>, recording: Recording): Part.Any => {
  const { by, delay, record } = recording
  const processor = part.name
  const note = (_tag: "Began" | "Ended", { epoch, key, offset, partition, topic }: Event<unknown>): void =>
    record({ _tag, processor, topic, partition, offset, key, epoch, by })

  const around = <A, E, R>(events: ReadonlyArray<Event<unknown>>, handle: () => Effect.Effect<A, E, R>) =>
    Effect.suspend(() => {
      for (const event of events) note("Began", event)
      const before = delay()
      const after = delay()
      const work = before === undefined ? handle() : Effect.andThen(before, Effect.suspend(handle))
      return Effect.onExit(after === undefined ? work : Effect.tap(work, after), (exit) => {
        // An interrupted one is handled again.
        if (!Exit.hasInterrupts(exit)) for (const event of events) note("Ended", event)
        return Effect.void
      })
    })

  const { shape } = part.definition
  switch (shape._tag) {
    case "Each":
      return part.with({
        shape: { ...shape, handler: (value, event) => around([event], () => shape.handler(value, event)) }
      })
    case "Batch":
      return part.with({
        shape: { ...shape, handler: (values, events) => around(events, () => shape.handler(values, events)) }
      })
    case "Stream":
      return part.with({
        shape: {
          ...shape,
          // What a pipeline does with an event is its own affair: it has it, and may commit it from then on.
          pipeline: (events) =>
            shape.pipeline(
              Stream.tap(events, (event) =>
                Effect.sync(() => {
                  note("Began", event)
                  note("Ended", event)
                })
              )
            )
        }
      })
  }
}
