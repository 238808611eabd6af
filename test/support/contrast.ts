/** The contrast of all text that a page shows now, as WCAG 2 computes it, over what it really stands on. */
import type { Page } from "./browser.ts"

export interface Faint {
  readonly text: string
  readonly element: string
  readonly ratio: number
}

// As text, since it runs in the page, whose names are not those of Node.js.
const measure = `(() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true })
  const paint = (colours) => {
    pen.clearRect(0, 0, 1, 1)
    for (const colour of colours) {
      pen.fillStyle = colour
      pen.fillRect(0, 0, 1, 1)
    }
    return Array.from(pen.getImageData(0, 0, 1, 1).data.slice(0, 3))
  }
  const luminance = (colour) => {
    const [red, green, blue] = colour.map((part) => {
      const share = part / 255
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4
    })
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
  }
  const grounds = (element) => {
    const found = []
    for (let at = element; at !== null; at = at.parentElement) found.unshift(getComputedStyle(at).backgroundColor)
    return found
  }
  const faint = []
  let seen = 0
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement
    const text = walker.currentNode.textContent.trim()
    if (text === "" || !element.checkVisibility() || element.closest(":disabled, .unseen, caption, noscript") !== null) continue
    const style = getComputedStyle(element)
    const under = grounds(element)
    const [a, b] = [luminance(paint([...under, style.color])), luminance(paint(under))]
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
    const size = Number.parseFloat(style.fontSize)
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700)
    seen++
    if (ratio < (isLarge ? 3 : 4.5)) faint.push({ text: text.slice(0, 40), element: element.tagName + "." + element.className, ratio })
  }
  return { faint, seen }
})()`

/** What is too faint, of so many texts. */
export const contrast = (page: Page): Promise<{ readonly faint: ReadonlyArray<Faint>; readonly seen: number }> =>
  page.evaluate(measure)
