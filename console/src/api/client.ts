// One way to the platform: JSON in the envelope {code,msg,data,requestId}, cookie session, CSRF header on unsafe methods.

export interface Envelope<T> {
  code: number
  msg: string
  data: T
  requestId: string
}

/** A refusal or failure, with the platform's own words and number. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: number,
    message: string,
    readonly requestId: string,
    readonly details: Record<string, unknown> = {},
  ) {
    super(message)
  }
}

let csrfToken = ''
let onExpired: () => void = () => {}

export function useCsrfToken(token: string): void {
  csrfToken = token
}

export function whenExpired(action: () => void): void {
  onExpired = action
}

export async function call<T>(method: string, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const json = body === undefined ? undefined : { type: 'application/json', content: JSON.stringify(body) }
  return unwrap<T>(await send(method, path, json, signal))
}

/** Send a file as it is. */
export async function upload<T>(path: string, file: Blob, signal?: AbortSignal): Promise<T> {
  return unwrap<T>(await send('POST', path, { type: 'application/octet-stream', content: file }, signal))
}

/** Fetch a file; the platform's refusal in words when there is none. */
export async function download(path: string): Promise<Blob> {
  const response = await send('GET', path)
  if (!response.ok) await unwrap(response)
  return response.blob()
}

async function send(
  method: string,
  path: string,
  body?: { type: string; content: BodyInit },
  signal?: AbortSignal,
): Promise<Response> {
  const headers: Record<string, string> = { Accept: 'application/json' }
  if (body !== undefined) headers['Content-Type'] = body.type
  if (method !== 'GET' && csrfToken) headers['X-CSRF-Token'] = csrfToken
  try {
    return await fetch(path, { method, headers, body: body?.content, credentials: 'same-origin', signal })
  } catch (cause) {
    if ((cause as Error).name === 'AbortError') throw cause
    throw new ApiError(0, 0, 'network', '')
  }
}

async function unwrap<T>(response: Response): Promise<T> {
  const envelope = (await response.json().catch(() => null)) as Envelope<T> | null
  if (envelope === null || typeof envelope.code !== 'number') {
    throw new ApiError(response.status, 0, `HTTP ${response.status}`, '')
  }
  if (envelope.code !== 0) {
    if (response.status === 401) onExpired()
    const details = (envelope.data ?? {}) as Record<string, unknown>
    throw new ApiError(response.status, envelope.code, envelope.msg, envelope.requestId, details)
  }
  return envelope.data
}

/** What went wrong, in the platform's own words; ``network`` when it did not answer at all. */
export function words(error: unknown, network: string): string {
  if (error instanceof ApiError) return error.status === 0 ? network : error.message
  return String(error)
}

/** Query text without the empty parameters. */
export function query(parameters: Record<string, string | number | boolean | undefined>): string {
  const search = new URLSearchParams()
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== '') search.set(name, String(value))
  }
  const text = search.toString()
  return text ? `?${text}` : ''
}
