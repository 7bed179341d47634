/** A moment in Beijing time, as the platform's people read it; a dash when there is none. */
export function localTime(text: string | null | undefined): string {
  if (!text) return '—'
  const at = new Date(text)
  if (Number.isNaN(at.getTime())) return text
  return new Intl.DateTimeFormat('sv-SE', {
    timeZone: 'Asia/Shanghai',
    dateStyle: 'short',
    timeStyle: 'medium',
  }).format(at)
}
