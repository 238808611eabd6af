/**
 * Building and changing the document. Children that are strings become text, never HTML, and what has not changed is not
 * touched, so that a look every second costs nothing where nothing happens.
 */

const put = (element, name, value) => {
  if (value === undefined || value === null || value === false) return
  if (typeof value === "function") element.addEventListener(name, value)
  else if (name === "class") element.className = value
  else element.setAttribute(name, value === true ? "" : String(value))
}

/** An element with attributes (a function listens to the event of that name) and children. */
export const h = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) put(element, name, value)
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false))
  return element
}

export const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text
}

export const setAttribute = (element, name, value) => {
  if (value === undefined || value === null) element.removeAttribute(name)
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value))
}

export const show = (element, shown) => {
  if (element.hidden === shown) element.hidden = !shown
}

/**
 * Children of `parent`, one for each item by its key: `make(item)` gives `{ element, update(item) }`. Elements stay as long
 * as their items do, with focus and selection.
 */
export const keyed = (parent, keyOf, make) => {
  const known = new Map()
  return (items) => {
    const keys = new Set()
    let at = parent.firstElementChild
    for (const item of items) {
      const key = keyOf(item)
      if (keys.has(key)) continue
      keys.add(key)
      let one = known.get(key)
      if (one === undefined) known.set(key, (one = make(item)))
      one.update(item)
      if (one.element === at) at = at.nextElementSibling
      else parent.insertBefore(one.element, at)
    }
    for (const [key, { element }] of known) {
      if (keys.has(key)) continue
      element.remove()
      known.delete(key)
    }
  }
}

let ids = 0
/** For what names something else of the page. */
export const newId = () => `id-${++ids}`
