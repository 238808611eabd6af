/** All processors: who runs them and how far behind they are. */
import { compact, count, duration, perSecond } from "../format.js"
import { history } from "../history.js"
import { badge, linkCell, liveTable } from "../liveTable.js"
import { hrefOf } from "../router.js"

export const stateOf = ({ members, owners, paused, quarantined }) => {
  if (quarantined.length > 0) return ["bad", `${quarantined.length} quarantined`]
  if (paused) return ["warn", "paused"]
  if (members.length === 0) return ["warn", "no worker"]
  return owners.some((owner) => owner === null) ? ["warn", "rebalancing"] : ["good", "runs"]
}

export const processorTable = () => {
  const table = liveTable({
    caption: "Processors",
    keyOf: ({ name }) => name,
    empty: "No processor has run on this engine yet. Start a worker: Worker.run([...]), or millrace worker <module>.",
    columns: [
      linkCell(
        "Processor",
        ({ name }) => name,
        ({ name }) => hrefOf("processors", name)
      ),
      { head: "State", node: badge(stateOf) },
      { head: "Topics", kind: "long", text: ({ topics }) => topics.join(", ") },
      { head: "Partitions", kind: "number", text: ({ partitions }) => count(partitions) },
      { head: "Workers", kind: "number", text: ({ members }) => count(members.length) },
      { head: "Handled", kind: "number", text: ({ name }) => perSecond(history.processor(name).last("handled") ?? 0) },
      { head: "Behind", kind: "number", hint: "Events not committed", text: ({ lag }) => compact(lag?.events ?? 0) },
      {
        head: "Entries",
        kind: "number",
        hint: "Entries not committed whole",
        text: ({ lag }) => compact(lag?.entries ?? 0)
      },
      {
        head: "Oldest",
        kind: "number",
        hint: "Age of the oldest unhandled event",
        text: ({ lag }) => duration(lag?.seconds ?? 0)
      }
    ]
  })
  return {
    element: table.element,
    update: ({ lags, processors }) => {
      const of = new Map(lags.map((lag) => [lag.processor, lag]))
      table.update(processors.map((processor) => ({ ...processor, lag: of.get(processor.name) })))
    }
  }
}

export const processors = () => {
  const table = processorTable()
  return { title: "Processors", element: table.element, update: table.update }
}
