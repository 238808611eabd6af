/** All that was put aside: quarantined partitions of every processor, and the parked keys of one. */
import { h, keyed, setAttribute, setText } from "../dom.js"
import { parkedTable } from "../parkedTable.js"
import { muted, section } from "../parts.js"
import { quarantineTable } from "../quarantine.js"

/** The one that has parked most since its workers began: what somebody wants to see first. */
const mostParked = (processors, workers) => {
  const parked = new Map(processors.map(({ name }) => [name, 0]))
  for (const { name, parked: more } of workers.flatMap(({ report }) => report?.parts ?? [])) {
    if (parked.has(name)) parked.set(name, parked.get(name) + more)
  }
  return Array.from(parked).toSorted(([, a], [, b]) => b - a)[0][0]
}

export const aside = () => {
  const table = quarantineTable(false)
  const choice = h("select", { id: "parked-of" })
  const place = h("div", {})
  let parked
  const choose = (name) => {
    parked?.close()
    parked = parkedTable(name)
    place.replaceChildren(parked.element)
    parked.read()
  }
  choice.addEventListener("change", () => choose(choice.value))
  const fill = keyed(
    choice,
    (name) => name,
    (name) => {
      const element = h("option", {})
      setText(element, name)
      setAttribute(element, "value", name)
      return { element, update: () => undefined }
    }
  )
  return {
    title: "Set aside",
    element: h(
      "div",
      { class: "stack" },
      section(
        "Quarantine",
        muted("These partitions stand still until somebody decides; the others go on."),
        table.element
      ),
      section("Parked keys", h("p", { class: "bar" }, h("label", { for: "parked-of" }, "Processor"), choice), place)
    ),
    update: ({ processors, quarantined, workers }) => {
      table.update(quarantined)
      fill(processors.map(({ name }) => name))
      if (parked !== undefined || processors.length === 0) return
      choice.value = mostParked(processors, workers)
      choose(choice.value)
    },
    close: () => parked?.close()
  }
}
