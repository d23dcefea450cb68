// Command hashicorp is one node of a cluster of hashicorp/raft, the library below OpenBao, driven
// by JSON lines on standard input as `../reference-node.ts` is. It is set up as OpenBao sets it up
// (internal/physical/raft/raft.go): bbolt as log and stable store, batching of applies, loopback
// TCP with or without mutual TLS. Its state machine is a counter in memory: cheaper than OpenBao's
// and cheaper than the reference's LevelDB.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/hashicorp/raft"
	boltdb "github.com/hashicorp/raft-boltdb/v2"
)

type command struct {
	Do          string `json:"do"`
	ID          string `json:"id"`
	Address     string `json:"address"`
	Concurrency int    `json:"concurrency"`
	Ms          int    `json:"ms"`
	Count       int    `json:"count"`
	GapMs       int    `json:"gapMs"`
	Bytes       int    `json:"bytes"`
	MarkEvery   int    `json:"markEvery"`
}

// machine applies nothing; of commands that carry a mark it notes when they arrived.
type machine struct {
	mu    sync.Mutex
	marks map[string]float64
}

const markPrefix = "mark-"

func (m *machine) Apply(entry *raft.Log) any {
	if !strings.HasPrefix(string(entry.Data[:len(markPrefix)]), markPrefix) {
		return nil
	}
	mark, _, _ := strings.Cut(string(entry.Data), "\x00")
	m.mu.Lock()
	m.marks[mark] = nowUs()
	m.mu.Unlock()
	return nil
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) { return empty{}, nil }
func (m *machine) Restore(state io.ReadCloser) error   { return state.Close() }

func (m *machine) takeMarks() map[string]float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.marks
	m.marks = map[string]float64{}
	return taken
}

type empty struct{}

func (empty) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (empty) Release()                             {}

// nowUs reads CLOCK_MONOTONIC, which all processes of a host share.
func nowUs() float64 {
	var ts syscall.Timespec
	_, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&ts)), 0)
	if errno != 0 {
		panic(errno)
	}
	return float64(ts.Sec)*1e6 + float64(ts.Nsec)/1e3
}

func cpuUs() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return float64(usage.Utime.Sec+usage.Stime.Sec)*1e6 + float64(usage.Utime.Usec+usage.Stime.Usec)
}

// layer is a raft.StreamLayer over TLS, as OpenBao's cluster port is.
type layer struct {
	net.Listener
	config *tls.Config
}

func (l layer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	if l.config == nil {
		return net.DialTimeout("tcp", string(address), timeout)
	}
	return tls.DialWithDialer(&net.Dialer{Timeout: timeout}, "tcp", string(address), l.config)
}

func listen(credentials string) layer {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	if credentials == "" {
		return layer{Listener: listener}
	}
	certificate, err := tls.LoadX509KeyPair(
		filepath.Join(credentials, "certificate.pem"), filepath.Join(credentials, "key.pem"))
	must(err)
	// As on the reference's cluster port, the certificate itself is the identity, not a name in it.
	isMember := func(presented [][]byte, _ [][]*x509.Certificate) error {
		if len(presented) == 0 || !bytes.Equal(presented[0], certificate.Certificate[0]) {
			return errors.New("not a member")
		}
		return nil
	}
	config := &tls.Config{
		Certificates:          []tls.Certificate{certificate},
		ClientAuth:            tls.RequireAnyClientCert,
		InsecureSkipVerify:    true,
		VerifyPeerCertificate: isMember,
		MinVersion:            tls.VersionTLS13,
	}
	return layer{Listener: tls.NewListener(listener, config), config: config}
}

// Arguments: node id, directory, and optionally a directory with certificate.pem and key.pem.
func main() {
	id, directory := os.Args[1], os.Args[2]
	credentials := ""
	if len(os.Args) > 3 {
		credentials = os.Args[3]
	}
	network := listen(credentials)
	transport := raft.NewNetworkTransport(network, 3, 10*time.Second, io.Discard)
	store, err := boltdb.New(boltdb.Options{Path: filepath.Join(directory, "raft.db")})
	must(err)
	cached, err := raft.NewLogCache(512, store)
	must(err)
	snapshots, err := raft.NewFileSnapshotStore(directory, 1, io.Discard)
	must(err)
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(id)
	config.LogOutput = io.Discard
	config.BatchApplyCh = true
	fsm := &machine{marks: map[string]float64{}}
	node, err := raft.NewRaft(config, fsm, cached, store, snapshots, transport)
	must(err)

	answer(map[string]any{"address": network.Addr().String()})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var todo command
		must(json.Unmarshal(lines.Bytes(), &todo))
		answer(carryOut(node, fsm, network, todo))
	}
	must(node.Shutdown().Error())
}

func carryOut(node *raft.Raft, fsm *machine, network layer, todo command) any {
	switch todo.Do {
	case "bootstrap":
		server := raft.Server{ID: raft.ServerID(todo.ID), Address: raft.ServerAddress(network.Addr().String())}
		must(node.BootstrapCluster(raft.Configuration{Servers: []raft.Server{server}}).Error())
		for node.State() != raft.Leader {
			time.Sleep(10 * time.Millisecond)
		}
	case "add":
		must(node.AddVoter(raft.ServerID(todo.ID), raft.ServerAddress(todo.Address), 0, 0).Error())
	case "start":
	case "voters":
		configuration := node.GetConfiguration()
		must(configuration.Error())
		return len(configuration.Configuration().Servers)
	case "load":
		return load(node, todo)
	case "marks":
		return fsm.takeMarks()
	case "cpu":
		return cpuUs()
	default:
		panic("unknown command " + todo.Do)
	}
	return nil
}

type loaded struct {
	Ops   int                `json:"ops"`
	Ms    float64            `json:"ms"`
	P50Us float64            `json:"p50Us"`
	P99Us float64            `json:"p99Us"`
	Acks  map[string]float64 `json:"acks"`
}

// load proposes from as many goroutines as asked, until the count or the time is used up.
func load(node *raft.Raft, todo command) loaded {
	var (
		next     atomic.Int64
		mu       sync.Mutex
		latency  []float64
		acks     = map[string]float64{}
		workers  sync.WaitGroup
		startUs  = nowUs()
		deadline = startUs + float64(todo.Ms)*1e3
	)
	for worker := 0; worker < todo.Concurrency; worker++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			var own []float64
			for nowUs() < deadline {
				number := int(next.Add(1))
				if todo.Count > 0 && todo.Count < number {
					break
				}
				mark := ""
				data := make([]byte, todo.Bytes)
				if todo.MarkEvery > 0 && number%todo.MarkEvery == 0 {
					mark = markPrefix + strconv.Itoa(number)
					copy(data, mark)
				}
				sentUs := nowUs()
				must(node.Apply(data, 10*time.Second).Error())
				ackUs := nowUs()
				own = append(own, ackUs-sentUs)
				if mark != "" {
					mu.Lock()
					acks[mark] = ackUs
					mu.Unlock()
				}
				if todo.GapMs > 0 {
					time.Sleep(time.Duration(todo.GapMs) * time.Millisecond)
				}
			}
			mu.Lock()
			latency = append(latency, own...)
			mu.Unlock()
		}()
	}
	workers.Wait()
	ms := (nowUs() - startUs) / 1e3
	slices.Sort(latency)
	at := func(q float64) float64 { return latency[min(len(latency)-1, int(q*float64(len(latency))))] }
	return loaded{Ops: len(latency), Ms: ms, P50Us: at(0.5), P99Us: at(0.99), Acks: acks}
}

func answer(value any) {
	line, err := json.Marshal(value)
	must(err)
	fmt.Println(string(line))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
