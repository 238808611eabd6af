/** Schedules of workers, and jobs that recur, with their last and next runs. */
import { h } from "../dom.js"
import { count, time, upcoming } from "../format.js"
import { badge, liveTable } from "../liveTable.js"
import { muted, section } from "../parts.js"
import { recurringTable } from "../recurring.js"

const stateOf = ({ leader, onLeader, running, workers }) => {
  if (workers.length === 0) return ["warn", "no worker has it"]
  if (onLeader && leader === null) return ["warn", "no leader"]
  return running > 0 ? ["good", `runs${running > 1 ? ` ${running} times` : ""}`] : ["calm", "waits"]
}

export const schedules = () => {
  let now = ""
  const table = liveTable({
    caption: "Schedules of workers",
    keyOf: ({ name }) => name,
    empty: "No worker has a schedule. Scheduler.task, Scheduler.timer and Scheduler.cron are parts of a worker.",
    columns: [
      { head: "Schedule", kind: "name", text: ({ name }) => name },
      { head: "Kind", text: ({ kind }) => kind ?? "–" },
      { head: "State", node: badge(stateOf) },
      {
        head: "Ticks on",
        kind: "long",
        text: ({ leader, onLeader }) => (onLeader ? (leader ?? "the leader") : "every worker")
      },
      { head: "Last", kind: "time", text: ({ last }) => time(last) },
      {
        head: "Next",
        kind: "time",
        text: ({ next }) => upcoming(next, now)
      },
      { head: "Workers", kind: "number", text: ({ workers }) => count(workers.length) }
    ]
  })
  const recurring = recurringTable()
  return {
    title: "Schedules",
    element: h(
      "div",
      { class: "stack" },
      section(
        "Of workers",
        muted("Parts of the program; the last tick is stored for those on the leader."),
        table.element
      ),
      section(
        "Jobs that recur",
        muted("Data beside their queues; any worker of the queue enqueues them."),
        recurring.element
      )
    ),
    update: (look) => {
      now = look.at
      table.update(look.schedules)
      recurring.update(look)
    }
  }
}
