/** Jobs that recur, as they are stored beside their queues, with what can be done to them. */
import { act } from "./act.js"
import { path, post } from "./api.js"
import { h, setAttribute, setText } from "./dom.js"
import { period, time, upcoming } from "./format.js"
import { badge, liveTable } from "./liveTable.js"
import { button } from "./parts.js"

const timingOf = ({ every, expression, timezone }) => {
  if (every !== null) return `every ${period(every)}`
  return expression === null ? "as a newer release has it" : `${expression} (${timezone})`
}

const stateOf = ({ paused }) => (paused ? ["warn", "paused"] : ["good", "on"])

const at = ({ name, queue }) => path`/queues/${queue}/schedules/${name}/`

const changePause = (schedule) =>
  act({
    run: () => post(at(schedule) + (schedule.paused ? "resume" : "pause")),
    done: () =>
      schedule.paused
        ? `${schedule.name} goes on with its next slot.`
        : `${schedule.name} is enqueued no more until it is resumed.`
  })

const remove = (schedule) =>
  act({
    ask: {
      title: `Remove ${schedule.name}?`,
      text: `${schedule.job} is enqueued by it no more; jobs that it has enqueued stay. A program that sets it brings it back.`,
      verb: "Remove it",
      danger: true
    },
    run: () => post(`${at(schedule)}remove`),
    done: () => `${schedule.name} is removed.`
  })

const actions = (schedule) => {
  let current = schedule
  const of = `${schedule.name} of ${schedule.queue}`
  const pause = button("Pause", () => changePause(current))
  const end = button("Remove", () => remove(current), { kind: "danger", about: `Remove ${of}` })
  return {
    element: h("div", { class: "actions" }, pause, end),
    update: (schedule) => {
      current = schedule
      const verb = schedule.paused ? "Resume" : "Pause"
      setText(pause, verb)
      setAttribute(pause, "aria-label", `${verb} ${of}`)
    }
  }
}

/** Of one queue, or of all. */
export const recurringTable = (queue) => {
  let now = ""
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
      { head: "Next", kind: "time", text: ({ next }) => upcoming(next[0] ?? null, now) },
      { head: "Actions", kind: "actions", node: actions }
    ]
  })
  return {
    element: table.element,
    update: (look) => {
      now = look.at
      table.update(queue === undefined ? look.jobSchedules : look.jobSchedules.filter((one) => one.queue === queue))
    }
  }
}
