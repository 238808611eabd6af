/** Queues with what can be done to a whole one. */
import { act } from "../act.js"
import { path, post } from "../api.js"
import { h, setAttribute, setText } from "../dom.js"
import { count, plural } from "../format.js"
import { badge, linkCell, liveTable } from "../liveTable.js"
import { button } from "../parts.js"
import { hrefOf } from "../router.js"

const states = ["ready", "delayed", "waiting", "active", "dead", "done"]

const flush = ({ counts, name }) =>
  act({
    ask: {
      title: `Flush ${name}?`,
      text: `${plural(counts.ready + counts.delayed + counts.waiting, "job")} that wait are forgotten. Those that run, are done or dead stay.`,
      verb: "Forget them",
      danger: true
    },
    run: () => post(path`/queues/${name}/flush`),
    done: ({ count: n }) => `Forgotten: ${plural(n, "job")} of ${name}.`
  })

const redrive = ({ counts, name }) =>
  act({
    ask: {
      title: `Redrive the dead jobs of ${name}?`,
      text: `${plural(counts.dead, "job")} are ready again, with all their retries.`,
      verb: "Redrive them"
    },
    run: () => post(path`/queues/${name}/redrive`),
    done: ({ count: n }) => `Ready again: ${plural(n, "job")} of ${name}.`
  })

const pause = ({ name, paused }) =>
  act({
    run: () => post(path`/queues/${name}/` + (paused ? "resume" : "pause")),
    done: () => (paused ? `${name} goes on.` : `${name} is paused; jobs that run finish.`)
  })

/** Buttons for the queue that `update` has seen last. */
export const queueActions = (name) => {
  let current
  const changePause = button("Pause", () => pause(current), { about: `Pause ${name}` })
  const redriveAll = button("Redrive dead", () => redrive(current), { about: `Redrive the dead jobs of ${name}` })
  const flushAll = button("Flush", () => flush(current), { kind: "danger", about: `Flush ${name}` })
  return {
    element: h("div", { class: "actions" }, changePause, redriveAll, flushAll),
    update: (queue) => {
      current = queue
      setText(changePause, queue.paused ? "Resume" : "Pause")
      setAttribute(changePause, "aria-label", `${queue.paused ? "Resume" : "Pause"} ${name}`)
      redriveAll.disabled = queue.counts.dead === 0
      flushAll.disabled = queue.counts.ready + queue.counts.delayed + queue.counts.waiting === 0
    }
  }
}

export const queueState = ({ counts, paused }) =>
  paused ? ["warn", "paused"] : counts.dead > 0 ? ["warn", "dead jobs"] : ["good", "open"]

export const queues = () => {
  const table = liveTable({
    caption: "Queues",
    keyOf: ({ name }) => name,
    empty: "No job has been enqueued yet. Enqueue one: Job.enqueue(job, payload).",
    columns: [
      linkCell(
        "Queue",
        ({ name }) => name,
        ({ name }) => hrefOf("queues", name)
      ),
      { head: "State", node: badge(queueState) },
      ...states.map((state) => ({
        head: state[0].toUpperCase() + state.slice(1),
        kind: "number",
        text: ({ counts }) => count(counts[state])
      })),
      { head: "Actions", kind: "actions", node: ({ name }) => queueActions(name) }
    ]
  })
  return { title: "Queues", element: table.element, update: (now) => table.update(now.queues) }
}
