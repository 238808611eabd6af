/** Where a log line belongs: what the lines of a worker, and those of its handlers, carry as annotations. */
import { Context, References } from "effect"
import type { Definition } from "../run/definition.ts"

type Annotations = Readonly<Record<string, unknown>>

/** The lines of whatever runs in this context say so. */
export const annotated = (context: Context.Context<never>, annotations: Annotations): Context.Context<never> =>
  Context.add(context, References.CurrentLogAnnotations, {
    ...Context.get(context, References.CurrentLogAnnotations),
    ...annotations
  })

/** The topic is known where there is one. */
export const placeOf = (
  { name, topics }: Pick<Definition, "name" | "topics">,
  partition: number | undefined,
  offset?: string
): Annotations => ({
  processor: name,
  ...(topics.length === 1 ? { topic: topics[0].name } : {}),
  ...(partition === undefined ? {} : { partition }),
  ...(offset === undefined ? {} : { offset })
})
