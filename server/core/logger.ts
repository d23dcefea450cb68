/** What the core logs with: fields, then an event in lower case. pino's logger fits. */
export type Logger = {
  info(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  error(fields: object, event: string): void;
};
