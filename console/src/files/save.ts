/** Hand a file to the browser's downloads. */
export function save(content: Blob, name: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(content)
  link.download = name
  // Browsers differ in what a link does that is on no page.
  document.body.append(link)
  link.click()
  link.remove()
  // The browser takes the content over at once; the address is not needed afterwards.
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}
