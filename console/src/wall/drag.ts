/** What a dragged camera is called between a list and a cell: its code, and nothing that other pages take. */
export const DRAGGED = 'application/x-tongshi-device'
