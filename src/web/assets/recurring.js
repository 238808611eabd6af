/** Jobs that recur, as they are stored beside their queues, with what can be done to them. */
import { act } from "./act.js"
import { get, path, post } from "./api.js"
import { h, setAttribute, setText } from "./dom.js"
import { period, time, upcoming } from "./format.js"
import { badge, liveTable } from "./liveTable.js"
import { button } from "./parts.js"
import { poll } from "./poll.js"

const everyMillis = 3_000

const timingOf = ({ every, expression, timezone }) => {
  if (every !== null) return `every ${period(every)}`
  return expression === null ? "as a newer release has it" : `${expression} (${timezone})`
}

const stateOf = ({ paused }) => (paused ? ["warn", "paused"] : ["good", "on"])

/** Of one queue, or of all. */
export const recurringTable = (queue) => {
  let now = new Date().toISOString()
  const change = async ({ name, paused, queue }) => {
    const isDone = await act({
      run: () => post(path`/queues/${queue}/recurring/${name}/` + (paused ? "resume" : "pause")),
      done: () => (paused ? `${name} goes on with its next slot.` : `${name} is enqueued no more until it is resumed.`)
    })
    if (isDone) look()
  }
  const actions = (item) => {
    let current = item
    const element = button("Pause", () => change(current))
    return {
      element: h("div", { class: "actions" }, element),
      update: (item) => {
        current = item
        const verb = item.paused ? "Resume" : "Pause"
        setText(element, verb)
        setAttribute(element, "aria-label", `${verb} ${item.name} of ${item.queue}`)
      }
    }
  }
  const table = liveTable({
    caption: "Jobs that recur",
    keyOf: ({ name, queue }) => `${queue}/${name}`,
    empty: "No job recurs. Job.every and Job.cron set one that goes on through restarts.",
    columns: [
      { head: "Name", kind: "name", text: ({ name }) => name },
      ...(queue === undefined ? [{ head: "Queue", text: (one) => one.queue }] : []),
      { head: "Job", text: ({ job }) => job },
      { head: "State", node: badge(stateOf) },
      { head: "When", kind: "long", text: timingOf },
      { head: "Missed slots", text: ({ missed }) => (missed === "skip" ? "skipped" : "one run for all") },
      { head: "Last", kind: "time", text: ({ last }) => time(last) },
      {
        head: "Next",
        kind: "time",
        text: ({ next }) => upcoming(next, now)
      },
      { head: "Actions", kind: "actions", node: actions }
    ]
  })
  const heard = (all) => {
    now = new Date().toISOString()
    table.update(queue === undefined ? all : all.filter((one) => one.queue === queue))
  }
  const ask = (signal) => get("/recurring", { signal })
  const look = () => ask().then(heard, () => undefined)
  return { element: table.element, close: poll(everyMillis, ask, heard) }
}
