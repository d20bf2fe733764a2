/* One client's session, in a process of its own that may crash or hang without harm to the server. */
#ifndef OFA_TVM_SESSION_H
#define OFA_TVM_SESSION_H

/* Signals that stop the server: at once between sessions, after clearing up within one. */
void prepare_signals(void);

/* Fork a session and wait until it ends, its client hangs up or its time (0: no limit) is over. Closes the client's
   connection; the session's process closes the other two descriptors as well. */
void serve_session(int client, int listener, int tracker, double limit_s);

#endif
