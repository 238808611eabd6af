/** One processor: lag, throughput and latency over time, the map of its partitions, and what it has put aside. */
import { act } from "../act.js"
import { path, post } from "../api.js"
import { changeLog } from "../changes.js"
import { chart } from "../chart.js"
import { h, setAttribute, setText, show } from "../dom.js"
import { compact, count, duration, perSecond, plural } from "../format.js"
import { history } from "../history.js"
import { watchLatency } from "../latency.js"
import { badge } from "../liveTable.js"
import { parkedTable } from "../parkedTable.js"
import { partitionMap } from "../partitionMap.js"
import { button, muted, section, tile, tiles } from "../parts.js"
import { quarantineTable } from "../quarantine.js"
import { stateOf } from "./processors.js"

const pauseButton = (name, isPaused) =>
  button("Pause", () =>
    isPaused()
      ? act({ run: () => post(path`/processors/${name}/resume`), done: () => `${name} goes on.` })
      : act({
          ask: {
            title: `Pause ${name}?`,
            text: "No worker hands out its events until it is resumed. What is in hand is finished, and owners stay.",
            verb: "Pause it"
          },
          run: () => post(path`/processors/${name}/pause`),
          done: () => `${name} is paused.`
        })
  )

const makeCharts = () => ({
  events: chart({ title: "Behind", hint: "Not committed", series: ["events", "entries"], format: compact }),
  seconds: chart({ title: "Age of the oldest unhandled event", series: ["age"], format: duration, least: 1 }),
  flow: chart({ title: "Throughput", series: ["handled", "stored in its topics"], format: perSecond }),
  latency: chart({
    title: "Latency on this worker",
    hint: "From the histograms of the worker that serves this page",
    series: ["median", "99 %", "commit, 99 %"],
    format: duration,
    least: 0.001
  })
})

/** What its topics took in, by the times of its own series. */
const storedOf = (topics, length) => {
  const all = topics.map((topic) => history.topic(topic).columns.stored ?? [])
  return Array.from({ length }, (_, at) => {
    const values = all.map((column) => column[column.length - length + at] ?? null)
    return values.every((value) => value === null) ? null : values.reduce((sum, value) => sum + (value ?? 0), 0)
  })
}

export const processor = (name) => {
  let paused = false
  const pause = pauseButton(name, () => paused)
  const state = badge(stateOf)
  const mark = h("span", {})
  const words = h("span", {})
  const about = h("p", { class: "about" }, mark, words)
  const behind = tile("Behind")
  const oldest = tile("Oldest")
  const handled = tile("Handled")
  const workers = tile("Workers", "#/workers")
  const generation = tile("Generation")
  const charts = makeCharts()
  const map = partitionMap()
  const log = changeLog(name)
  const aside = quarantineTable(true)
  const parked = parkedTable(name)
  const gone = h("p", { class: "empty", hidden: true }, `There is no processor ${name} on this engine.`)
  const body = h(
    "div",
    { class: "stack" },
    about,
    tiles(behind, oldest, handled, workers, generation),
    section("Partitions", map.element, h("h3", {}, "What has changed"), log.element),
    section("Over time", h("div", { class: "charts pairs" }, ...Object.values(charts).map(({ element }) => element))),
    section("Quarantine", aside.element),
    section(
      "Parked keys",
      muted("Keys that wait behind an event of theirs that failed; all others go on."),
      parked.element
    )
  )
  let badgeShown
  const stopLatency = watchLatency(name, ({ commit, p50, p99, times }) =>
    charts.latency.update(times, [p50, p99, commit])
  )
  parked.read()
  return {
    title: name,
    kind: "Processor",
    tools: [pause],
    element: h("div", {}, gone, body),
    update: (now) => {
      const processor = now.processors.find((one) => one.name === name)
      show(gone, processor === undefined)
      show(body, processor !== undefined)
      show(pause, processor !== undefined)
      if (processor === undefined) return
      paused = processor.paused
      setText(pause, paused ? "Resume" : "Pause")
      setAttribute(pause, "class", paused ? "main" : undefined)
      if (badgeShown === undefined) mark.append((badgeShown = state(processor)).element)
      badgeShown.update(processor)
      setText(words, ` reads ${processor.topics.join(", ")} in ${plural(processor.partitions, "partition")}`)
      const lag = now.lags.find((one) => one.processor === name)
      const { columns, times } = history.processor(name)
      behind.update(compact(lag?.events ?? 0), { more: `events, ${compact(lag?.entries ?? 0)} entries` })
      oldest.update(duration(lag?.seconds ?? 0), { more: "event that waits" })
      handled.update(perSecond(history.processor(name).last("handled") ?? 0))
      workers.update(count(processor.members.length))
      generation.update(count(processor.generation), { more: "times dealt out" })
      map.update({ processor, lag, workers: now.workers, now: Date.parse(now.at) })
      log.update()
      charts.events.update(times, [columns.events, columns.entries])
      charts.seconds.update(times, [columns.seconds])
      charts.flow.update(times, [columns.handled, storedOf(processor.topics, times.length)])
      aside.update(now.quarantined.filter((one) => one.processor === name))
    },
    close: () => {
      stopLatency()
      parked.close()
      for (const one of Object.values(charts)) one.close()
    }
  }
}
