package lab

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

// Where the service speaks WebSocket, and where it answers plain requests.
const (
	chatPath = "/chat"
	newsPath = "/news"
)

// newsWork is how long a plain request takes: requests that come together need a connection each.
const newsWork = 20 * time.Millisecond

// maxMessageSize keeps a message under the reader's limit of the WebSocket library, 32 KiB.
const maxMessageSize = 16 << 10

// serveSpec is a pod's service: a WebSocket chat that pushes on its own clock.
type serveSpec struct {
	Port uint16        `json:"port"`
	Ping time.Duration `json:"ping"` // 0: never
}

// listen opens the service's port with its keepalive settings, on every address as services do: where there is IPv6, its
// IPv4 connections are then IPv4-mapped sockets.
func (s serveSpec) listen(ctx context.Context) (net.Listener, error) {
	lc := net.ListenConfig{Control: cubic, KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: keepaliveTime, Interval: keepaliveTime, Count: keepaliveProbes,
	}}
	return lc.Listen(ctx, "tcp", fmt.Sprint(":", s.Port))
}

// cubic makes a socket, and those accepted from it, behave as on ordinary nodes: the machine's default congestion control
// may be one whose timing says nothing about theirs, and a namespace may not choose another
// (tcp_set_default_congestion_control).
func cubic(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) { set = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic") })
	if err == nil && set != nil {
		err = fmt.Errorf("choose cubic congestion control: %w", set)
	}
	return err
}

// serve answers until ctx ends.
func (w *workload) serve(ctx context.Context, ln net.Listener, s serveSpec) error {
	mux := http.NewServeMux()
	mux.HandleFunc(newsPath, func(rw http.ResponseWriter, r *http.Request) {
		sleep(r.Context(), newsWork)
		fmt.Fprintln(rw, "no news")
	})
	mux.HandleFunc(chatPath, func(rw http.ResponseWriter, r *http.Request) {
		talk, err := time.ParseDuration(r.URL.Query().Get("talk"))
		size, badSize := strconv.Atoi(r.URL.Query().Get("size"))
		if err != nil || talk < 0 || badSize != nil || size < 0 || size > maxMessageSize {
			http.Error(rw, "talk wants a duration, size a number of bytes", http.StatusBadRequest)
			return
		}
		c, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return // Accept has answered
		}
		w.answer(ctx, &conversation{c: c}, speech{talk, size, s.Ping})
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := srv.Serve(ln); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// answer is the service's end of a connection, until that or ctx ends.
func (w *workload) answer(ctx context.Context, c *conversation, s speech) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var clocks sync.WaitGroup
	messages := 0
	_ = w.hear(ctx, c, func(kind websocket.MessageType, text []byte) (err error) { // counted there
		messages++
		if messages > 2 {
			return nil
		}
		err = c.c.Write(ctx, kind, text)
		if messages == 1 {
			clocks.Go(func() { w.every(ctx, s.ping, func() error { return c.c.Ping(ctx) }) })
		} else {
			clocks.Go(func() { w.talk(ctx, c, s) })
		}
		return err
	})
	cancel()
	clocks.Wait()
}

// breakSilence says one thing on every connection that says nothing by itself, each at a moment of its own within the
// given time, and returns at once.
func (w *workload) breakSilence(ctx context.Context, within time.Duration) {
	idle := w.conversations(func(c *conversation) bool { return !c.talks.Load() })
	go w.scatter(ctx, idle, within, func(c *conversation) { _ = w.say(ctx, c, []byte("good news")) }) // a dead one is heard of
}
