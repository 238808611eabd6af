/** `millrace explain <event>`: where it is, and who has handled it or not, and why. */
import { Duration, Effect } from "effect"
import { Argument, Command } from "effect/cli"
import { withEngine } from "./engine.ts"
import * as Explaining from "./explaining.ts"
import { oneLine } from "./failures.ts"
import { show, table, toJson } from "./output.ts"

export const explain = Command.make(
  "explain",
  {
    event: Argument.String("event").pipe(
      Argument.withDescription("<topic>/<partition>@<offset>, as send and lists print it")
    )
  },
  Effect.fn(function* ({ event }) {
    const place = yield* Explaining.placeOf(event)
    const about = yield* withEngine()(Explaining.explain(place))
    const age = Duration.format(Duration.seconds(Math.floor(about.seconds)))
    yield* show(about, () => [
      `${about.topic}/${about.partition}@${about.offset}`,
      `stored     ${about.storedAt}, ${age} ago${about.state === "trimmed" ? "; trimmed since by its retention" : ""}`,
      ...(about.key === null ? [] : [`key        ${about.key}`]),
      ...(about.value === null ? [] : [`value      ${toJson(about.value)}`]),
      "",
      ...(about.processors.length === 0
        ? ["no processor reads this topic"]
        : table(
            ["processor", "state", "why", "owner"],
            about.processors.map((one) => [one.processor, one.state, oneLine(one.detail), one.owner ?? undefined])
          ))
    ])
  })
).pipe(
  Command.withDescription("What became of an event: who has handled it, who not, and why"),
  Command.withExamples([
    { command: "millrace explain orders/3@1795365670913-0.0", description: "An event by its place" }
  ])
)
