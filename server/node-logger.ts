/** What a node logs with: fields, then an event in lower case. pino's logger fits. */
export type NodeLogger = {
  debug(fields: object, event: string): void;
  info(fields: object, event: string): void;
  warn(fields: object, event: string): void;
  error(fields: object, event: string): void;
  fatal(fields: object, event: string): void;
};
