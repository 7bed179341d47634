// The console's words for what the REST face answers; names are the operation table's.

export interface SessionInfo {
  user: string
  displayName?: string
  permissions: string[]
  csrfToken: string
}

export interface PlatformInfo {
  platformId: string
  name: string
  version: string
}

export interface DeviceLite {
  DeviceID: string
  Name: string
  Status: 'ON' | 'OFF' | null
  CivilCode: string
  Address?: string
  PTZType?: string
  sourcePlatform: string
  missingSince?: string | null
}

export interface Page<T> {
  list: T[]
  total: number | null
  pageNo: number
  pageSize: number
}

export interface Trace {
  authMs: number | null
  inviteMs: number | null
  answerMs: number | null
  firstRtpMs: number | null
  firstIdrMs: number | null
}

export interface LiveAnswer {
  sessionId: string
  streamId: string
  urls: { protocol: string; url: string; expiresAt: string }[]
  codec: { video: string; width: number; height: number; audio: string } | null
  reused: boolean
  trace: Trace
}

export interface PtzAnswer {
  accepted: boolean
  controlDelayMs: number
}

export interface Neighbour {
  platformId: string
  name: string
  relation: 'self' | 'upper' | 'lower' | 'lateral'
  online: boolean | null
  deviceCount: number
  lastExchangeAt: string | null
  lag: number | null
  equal: boolean | null
  lastError: string | null
}
