/** What rebalances have changed since the page was opened, in words. */
import { h, keyed, setText } from "./dom.js"
import { plural, time } from "./format.js"
import { history } from "./history.js"

const mostNamed = 12

const moveOf = ({ epoch, from, partition, to }) =>
  from === to
    ? `${partition}: ${to} again, epoch ${epoch}`
    : `${partition}: ${from ?? "nobody"} → ${to ?? "nobody"}${epoch === undefined ? "" : `, epoch ${epoch}`}`

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
      const more = moves.length > mostNamed ? `, and ${moves.length - mostNamed} more` : ""
      const text = moves.slice(0, mostNamed).map(moveOf).join("; ") + more
      return { element: h("li", {}, head, h("p", { class: "muted" }, text)), update: () => undefined }
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
