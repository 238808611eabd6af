/** Which view the address asks for: `#/processors/orders` has the view `processors` and the name `orders`. */

const decode = (part) => {
  try {
    return decodeURIComponent(part)
  } catch {
    return part
  }
}

export const hrefOf = (view, name) => (name === undefined ? `#/${view}` : `#/${view}/${encodeURIComponent(name)}`)

export const place = () => {
  const [view = "", name] = location.hash.replace(/^#\/?/, "").split("/")
  return { view, name: name === undefined || name === "" ? undefined : decode(name) }
}
