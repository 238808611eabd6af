/** A tracer that keeps what ended, in the test's process. */
import { Option, Tracer } from "effect"

export interface Kept {
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parent: string | undefined
  readonly links: ReadonlyArray<string>
  readonly attributes: Readonly<Record<string, unknown>>
  readonly failed: boolean
}

export const keeping = (kept: Array<Kept>): Tracer.Tracer =>
  Tracer.make({
    span: (options) => {
      const span = new Tracer.NativeSpan(options)
      const end = span.end.bind(span)
      span.end = (time, exit) => {
        end(time, exit)
        if (!span.sampled) return
        kept.push({
          name: span.name,
          traceId: span.traceId,
          spanId: span.spanId,
          parent: Option.getOrUndefined(span.parent)?.spanId,
          links: span.links.map(({ span: linked }) => linked.spanId),
          attributes: Object.fromEntries(span.attributes),
          failed: exit._tag === "Failure"
        })
      }
      return span
    }
  })
