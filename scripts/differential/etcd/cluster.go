package main

import (
	"fmt"
	"math"
	"reflect"
	"unsafe"

	"go.etcd.io/etcd/raft"
	pb "go.etcd.io/etcd/raft/raftpb"
)

// Options are those of all nodes. Nodes have the numbers 1 to Nodes, and all of them begin with the
// configuration of Voters and Learners, those outside of it as well.
type Options struct {
	Nodes        uint64   `json:"nodes"`
	Voters       []uint64 `json:"voters"`
	Learners     []uint64 `json:"learners"`
	ElectionTick int      `json:"electionTicks"`
	// Which of the possible election timeouts all nodes have at all times.
	TimeoutTick     int    `json:"timeoutTicks"`
	HeartbeatTick   int    `json:"heartbeatTicks"`
	MaxSizePerMsg   uint64 `json:"appendBytesMax"`
	MaxInflightMsgs int    `json:"inflightAppendsMax"`
}

// Position names an entry: Raft's log matching says that there is one of it.
type Position struct{ Index, Term uint64 }

type Cluster struct {
	options Options
	nodes   map[uint64]*Node
	// Every entry that any node has written: messages from outside name entries by position only.
	entries map[Position]pb.Entry
	// The configuration in force once the entry of this index is applied.
	configurations map[uint64]pb.ConfState
}

type Node struct {
	id      uint64
	cluster *Cluster
	raw     *raft.RawNode
	storage *Storage
}

// Storage is etcd's in memory, with a snapshot of whatever is applied.
type Storage struct {
	*raft.MemoryStorage
	applied       uint64
	configuration pb.ConfState
}

func (storage *Storage) InitialState() (pb.HardState, pb.ConfState, error) {
	hardState, _, err := storage.MemoryStorage.InitialState()
	return hardState, storage.configuration, err
}

func (storage *Storage) Snapshot() (pb.Snapshot, error) {
	term, err := storage.Term(storage.applied)
	return snapshotOf(storage.applied, term, storage.configuration), err
}

func snapshotOf(index, term uint64, configuration pb.ConfState) pb.Snapshot {
	return pb.Snapshot{Metadata: pb.SnapshotMetadata{Index: index, Term: term, ConfState: configuration}}
}

func NewCluster(options Options) *Cluster {
	cluster := &Cluster{
		options:        options,
		nodes:          map[uint64]*Node{},
		entries:        map[Position]pb.Entry{},
		configurations: map[uint64]pb.ConfState{},
	}
	for id := uint64(1); id <= options.Nodes; id++ {
		storage := &Storage{
			MemoryStorage: raft.NewMemoryStorage(),
			configuration: pb.ConfState{Voters: options.Voters, Learners: options.Learners},
		}
		node := &Node{id: id, cluster: cluster, storage: storage}
		node.start()
		cluster.nodes[id] = node
	}
	return cluster
}

func (node *Node) start() {
	options := node.cluster.options
	raw, err := raft.NewRawNode(&raft.Config{
		ID:                       node.id,
		ElectionTick:             options.ElectionTick,
		HeartbeatTick:            options.HeartbeatTick,
		Storage:                  node.storage,
		Applied:                  node.storage.applied,
		MaxSizePerMsg:            options.MaxSizePerMsg,
		MaxCommittedSizePerReady: math.MaxUint64,
		MaxInflightMsgs:          options.MaxInflightMsgs,
		CheckQuorum:              true,
		PreVote:                  true,
		Logger:                   silence{},
	})
	check(err)
	node.raw = raw
	node.pinTimeout()
}

// The library draws its election timeouts from a generator that nobody can seed. All that is set
// here is what it drew.
func (node *Node) pinTimeout() {
	node.setCore("randomizedElectionTimeout", node.cluster.options.TimeoutTick)
}

func (node *Node) setCore(field string, value int) {
	core := reflect.ValueOf(node.raw).Elem().FieldByName("raft").Elem()
	*(*int)(unsafe.Pointer(core.FieldByName(field).UnsafeAddr())) = value
}

func (cluster *Cluster) Run(request Request) Response {
	node := cluster.nodes[request.Node]
	response := Response{Messages: []Message{}, Reads: []ReadState{}}
	if err := node.act(request); err != nil {
		response.Refused = err.Error()
	}
	node.drain(&response)
	node.pinTimeout()
	response.Status = node.status()
	return response
}

func (node *Node) act(request Request) error {
	switch request.Op {
	case "tick":
		node.raw.Tick()
	case "campaign":
		return node.campaign()
	case "propose":
		return node.raw.Propose([]byte(request.Text))
	case "configure":
		return node.configure(request)
	case "transfer":
		node.raw.TransferLeader(request.Peer)
	case "read":
		node.raw.ReadIndex([]byte(request.Text))
	case "step":
		return node.raw.Step(node.cluster.decode(*request.Message))
	case "unreachable":
		node.raw.ReportUnreachable(request.Peer)
	case "snapshotEnded":
		status := raft.SnapshotFailure
		if request.Ok {
			status = raft.SnapshotFinish
		}
		node.raw.ReportSnapshot(request.Peer, status)
	case "compact":
		check(node.storage.Compact(request.Index))
	case "restart":
		node.start()
	case "look":
	default:
		panic("unknown op " + request.Op)
	}
	return nil
}

// An election timeout that has passed begins a new one, also when it was called for.
func (node *Node) campaign() error {
	before := node.raw.BasicStatus().RaftState
	err := node.raw.Campaign()
	if before != raft.StateLeader && node.raw.BasicStatus().RaftState != raft.StateFollower {
		node.setCore("electionElapsed", 0)
	}
	return err
}

func (node *Node) configure(request Request) error {
	changes, err := pb.ConfChangesFromString(request.Changes)
	check(err)
	transition, ok := map[string]pb.ConfChangeTransition{
		"auto":     pb.ConfChangeTransitionAuto,
		"implicit": pb.ConfChangeTransitionJointImplicit,
		"explicit": pb.ConfChangeTransitionJointExplicit,
	}[request.Transition]
	if !ok {
		panic("unknown transition " + request.Transition)
	}
	return node.raw.ProposeConfChange(pb.ConfChangeV2{Transition: transition, Changes: changes})
}

// Writes, applies and sends until nothing is left to do, in the order that the library asks for.
func (node *Node) drain(response *Response) {
	for node.raw.HasReady() {
		ready := node.raw.Ready()
		if !raft.IsEmptyHardState(ready.HardState) {
			check(node.storage.SetHardState(ready.HardState))
		}
		if !raft.IsEmptySnap(ready.Snapshot) {
			check(node.storage.ApplySnapshot(ready.Snapshot))
			node.storage.applied = ready.Snapshot.Metadata.Index
			node.storage.configuration = ready.Snapshot.Metadata.ConfState
		}
		for _, entry := range ready.Entries {
			node.cluster.entries[Position{entry.Index, entry.Term}] = entry
		}
		check(node.storage.Append(ready.Entries))
		for _, message := range ready.Messages {
			response.Messages = append(response.Messages, node.encode(message))
		}
		for _, state := range ready.ReadStates {
			response.Reads = append(response.Reads, ReadState{string(state.RequestCtx), state.Index})
		}
		for _, entry := range ready.CommittedEntries {
			node.apply(entry)
		}
		node.raw.Advance(ready)
	}
}

func (node *Node) apply(entry pb.Entry) {
	if entry.Type == pb.EntryConfChangeV2 {
		var change pb.ConfChangeV2
		check(change.Unmarshal(entry.Data))
		node.storage.configuration = *node.raw.ApplyConfChange(change)
	}
	node.storage.applied = entry.Index
	node.cluster.configurations[entry.Index] = node.storage.configuration
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// silence drops what the library logs, but not what it panics with.
type silence struct{}

func (silence) Debug(...interface{})            {}
func (silence) Debugf(string, ...interface{})   {}
func (silence) Info(...interface{})             {}
func (silence) Infof(string, ...interface{})    {}
func (silence) Warning(...interface{})          {}
func (silence) Warningf(string, ...interface{}) {}
func (silence) Error(...interface{})            {}
func (silence) Errorf(string, ...interface{})   {}

func (silence) Fatal(words ...interface{})                 { panic(fmt.Sprint(words...)) }
func (silence) Fatalf(format string, words ...interface{}) { panic(fmt.Sprintf(format, words...)) }
func (silence) Panic(words ...interface{})                 { panic(fmt.Sprint(words...)) }
func (silence) Panicf(format string, words ...interface{}) { panic(fmt.Sprintf(format, words...)) }
