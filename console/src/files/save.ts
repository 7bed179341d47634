/** Hand a file to the browser's downloads. */
export function save(content: Blob, name: string): void {
  const link = document.createElement('a')
  link.href = URL.createObjectURL(content)
  link.download = name
  link.click()
  // The browser takes the content over at once; the address is not needed afterwards.
  window.setTimeout(() => URL.revokeObjectURL(link.href), 10_000)
}
