/** All that was put aside: quarantined partitions of every processor, and the parked keys of one. */
import { h, keyed, setAttribute, setText } from "../dom.js"
import { parkedTable } from "../parkedTable.js"
import { muted, section } from "../parts.js"
import { quarantineTable } from "../quarantine.js"

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
    update: ({ processors, quarantined }) => {
      table.update(quarantined)
      fill(processors.map(({ name }) => name))
      if (parked === undefined && choice.value !== "") choose(choice.value)
    },
    close: () => parked?.close()
  }
}
