/** What rebalances have changed since the page was opened, in words. */
import { h, keyed, setText } from "./dom.js"
import { plural, time } from "./format.js"
import { history } from "./history.js"

/** 1, 2, 3, 7 as "1–3, 7". */
const rangesOf = (numbers) => {
  const ranges = []
  for (const number of numbers) {
    const last = ranges.at(-1)
    if (last !== undefined && last[1] === number - 1) last[1] = number
    else ranges.push([number, number])
  }
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}–${to}`)).join(", ")
}

const wayOf = ({ from, to }) =>
  from === to ? `${to} again, in a new epoch` : `${from ?? "nobody"} → ${to ?? "nobody"}`

/** Partitions that went the same way together; those of the map say their epochs. */
const waysOf = (moves) =>
  Array.from(Map.groupBy(moves, wayOf), ([way, same]) => `${rangesOf(same.map(({ partition }) => partition))}: ${way}`)

/** One sentence, also for those who hear it. */
export const sentence = ({ joined, left, moves }) => {
  const who = [...joined.map((member) => `${member} joined`), ...left.map((member) => `${member} left`)]
  return [...who, `${plural(moves.length, "partition")} changed`].join(", ")
}

export const changeLog = (processor) => {
  const list = h("ol", { class: "changes" })
  const nothing = h("p", { class: "empty" }, "No partition has changed its owner since this page was opened.")
  const fill = keyed(
    list,
    ({ at }) => at,
    (change) => {
      const { at, generation, moves } = change
      const head = h("p", {}, h("time", { datetime: at }, time(at)), h("b", {}, ` Generation ${generation} `))
      head.append(sentence(change))
      const ways = waysOf(moves).map((way) => h("p", { class: "muted" }, way))
      return { element: h("li", {}, head, ...ways), update: () => undefined }
    }
  )
  let told = history.changes(processor)[0]?.at
  const heard = h("p", { class: "unseen", role: "status", "aria-live": "polite" })
  return {
    element: h("div", {}, heard, list, nothing),
    update: () => {
      const changes = history.changes(processor)
      fill(changes)
      nothing.hidden = changes.length > 0
      if (changes[0] !== undefined && changes[0].at !== told) {
        told = changes[0].at
        setText(heard, sentence(changes[0]))
      }
    }
  }
}
