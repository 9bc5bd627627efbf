"""What the generated shop sells: kinds of goods, brands, lines, colours. Invented; any likeness to real brands is chance."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of goods.

    Attributes:
        noun: singular or plural, as in a title; names the kind.

        shelf: second category of its items, below the department.

        price: of a typical item.

        materials: words before the noun, separated by commas.

        goes_with: nouns of what is bought after it, separated by commas.

        lasts_days: until it is used up; 0 = it lasts.

        peak_day: day of the year of the season's height; 0 = no season.

        says: a sentence for the description.

        sizes: what an item comes in, separated by commas; empty = it comes in colours.
    """

    noun: str
    shelf: str
    price: float
    materials: str
    goes_with: str = ""
    lasts_days: int = 0
    peak_day: int = 0
    says: str = ""
    sizes: str = ""


# fmt: off
DEPARTMENTS: dict[str, tuple[Kind, ...]] = {
    "Outdoor": (
        Kind("two-person tent", "Camping", 189, "ripstop,canvas,ultralight", "groundsheet,sleeping mat", 0, 190, "Stands in four minutes and packs to the size of a loaf."),
        Kind("groundsheet", "Camping", 24, "polyester,recycled,heavy-duty", "", 0, 190, "Keeps the floor of the tent dry and whole.", "120 x 210 cm,140 x 220 cm,200 x 220 cm"),
        Kind("sleeping mat", "Camping", 49, "inflatable,foam,self-inflating", "", 0, 190, "Warm from below on nights down to five degrees."),
        Kind("hiking boots", "Hiking", 139, "leather,nubuck,waterproof", "hiking socks,boot wax", 0, 120, "A firm heel and a sole that holds on wet rock."),
        Kind("hiking socks", "Hiking", 16, "merino,bamboo,cushioned", "", 0, 120, "No seams where the boot presses."),
        Kind("boot wax", "Hiking", 9, "beeswax,natural,neutral", "", 75, 0, "Feeds the leather and keeps water out.", "50 ml,100 ml,200 ml"),
        Kind("down jacket", "Clothing", 169, "quilted,recycled,hooded", "beanie", 0, 10, "Weighs less than a loaf of bread and warms for years."),
        Kind("beanie", "Clothing", 22, "merino,ribbed,lambswool", "", 0, 10, "Thin enough to sit below a hood."),
        Kind("swim shorts", "Clothing", 35, "quick-dry,recycled,cotton-lined", "beach towel", 0, 195, "Dry by the time the coffee comes."),
    ),
    "Home": (
        Kind("duvet cover", "Bedding", 69, "linen,cotton percale,flannel", "pillowcase", 0, 20, "Washed once before it leaves us, so that it is soft from the first night."),
        Kind("pillowcase", "Bedding", 18, "linen,cotton percale,flannel", "", 0, 20, "With an inner flap, so that nothing slips out."),
        Kind("beach towel", "Bath", 29, "cotton,waffle,turkish", "", 0, 195, "Large enough for two and a book."),
        Kind("bath towel", "Bath", 21, "organic cotton,waffle,terry", "", 0, 0, "Heavy, thirsty, and soft after fifty washes."),
        Kind("scented candle", "Living", 19, "soy,beeswax,rapeseed", "", 35, 340, "Burns for forty hours without soot.", "fig,cedar,black tea,sea salt,orange peel"),
        Kind("wool throw", "Living", 79, "lambswool,mohair,recycled", "scented candle", 0, 330, "Woven in one piece, with a twisted fringe."),
        Kind("table lamp", "Living", 85, "ceramic,brass,oak", "light bulb", 0, 330, "Gives a warm light to read by."),
        Kind("light bulb", "Living", 8, "filament,opal,dimmable", "", 120, 0, "Warm white, as bright as the old sixty watts.", "E14,E27,GU10"),
    ),
    "Kitchen": (
        Kind("espresso machine", "Coffee", 349, "steel,compact,lever", "coffee beans,milk jug", 0, 345, "Hot in three minutes, with a wand for the milk of two cups."),
        Kind("milk jug", "Coffee", 22, "steel,enamel,stoneware", "", 0, 345, "A spout that pours a fine line."),
        Kind("hand grinder", "Coffee", 69, "steel,walnut,ceramic", "coffee beans", 0, 345, "Forty clicks from espresso to French press."),
        Kind("coffee beans", "Coffee", 14, "Ethiopian,Colombian,dark roast", "", 21, 0, "Roasted on Tuesday, sent on Wednesday.", "250 g,500 g,1 kg"),
        Kind("green tea", "Tea", 11, "sencha,jasmine,loose-leaf", "", 30, 15, "Picked in spring; steep it at eighty degrees.", "50 g,100 g,250 g"),
        Kind("teapot", "Tea", 45, "cast-iron,stoneware,glass", "green tea", 0, 345, "Holds four cups and does not drip."),
        Kind("chef's knife", "Cooking", 89, "carbon steel,damascus,forged", "cutting board,whetstone", 0, 345, "Balanced at the bolster and sharp out of the box.", "16 cm,20 cm,24 cm"),
        Kind("cutting board", "Cooking", 38, "oak,bamboo,end-grain", "", 0, 345, "Oiled twice; kind to the edge of a knife.", "small,medium,large"),
        Kind("whetstone", "Cooking", 42, "fine,coarse,double-sided", "", 0, 0, "Takes a blade from blunt to paper-cutting.", "400 grit,1000 grit,3000 grit"),
        Kind("frying pan", "Cooking", 65, "cast-iron,steel,copper-core", "", 0, 0, "Heats evenly from rim to rim.", "20 cm,24 cm,28 cm"),
    ),
    "Garden": (
        Kind("raised bed", "Growing", 99, "larch,corten,recycled", "potting soil,vegetable seeds", 0, 105, "Goes together without tools.", "60 x 120 cm,80 x 120 cm,100 x 200 cm"),
        Kind("potting soil", "Growing", 12, "peat-free,compost,herb", "", 45, 105, "Holds water for a long weekend.", "10 l,20 l,40 l"),
        Kind("vegetable seeds", "Growing", 4, "heirloom,organic,early", "", 60, 85, "Open-pollinated: keep your own for next year.", "tomato,carrot,runner bean,kale,beetroot,courgette"),
        Kind("secateurs", "Tools", 34, "forged,bypass,ratchet", "garden gloves", 0, 95, "Cuts a thumb's width of green wood.", "small,medium,large"),
        Kind("garden gloves", "Tools", 14, "goatskin,nitrile,canvas", "", 0, 105, "Thorns stay outside."),
        Kind("charcoal grill", "Barbecue", 159, "enamelled,steel,folding", "charcoal,grill tongs", 0, 170, "Ready to cook in twenty minutes."),
        Kind("charcoal", "Barbecue", 13, "beech,coconut,oak", "", 25, 170, "Burns long and without sparks.", "3 kg,5 kg,10 kg"),
        Kind("grill tongs", "Barbecue", 17, "steel,oak-handled,locking", "", 0, 170, "Long enough to keep your sleeves.", "30 cm,40 cm,50 cm"),
    ),
    "Care": (
        Kind("shampoo bar", "Hair", 9, "rosemary,oat,unscented", "", 40, 0, "Lasts as long as two bottles and needs none.", "60 g,90 g,three bars"),
        Kind("hairbrush", "Hair", 24, "beech,boar-bristle,pear-wood", "", 0, 0, "Pins that bend before they pull.", "oval,round,paddle"),
        Kind("face cream", "Skin", 27, "calendula,light,rich", "", 45, 15, "Sinks in while you brush your teeth.", "30 ml,50 ml,75 ml"),
        Kind("sun lotion", "Skin", 18, "mineral,sport,children's", "", 30, 185, "Factor fifty and no white cast.", "50 ml,100 ml,200 ml"),
        Kind("safety razor", "Shaving", 45, "brass,chrome,bamboo", "razor blades,shaving soap", 0, 345, "One blade, no plastic, a lifetime.", "short handle,long handle,travel set"),
        Kind("razor blades", "Shaving", 7, "platinum,stainless,Japanese", "", 40, 0, "Ten in a paper box.", "10 blades,20 blades,50 blades"),
        Kind("shaving soap", "Shaving", 12, "sandalwood,cedar,unscented", "", 60, 0, "A thick lather from a little water.", "100 g,150 g,refill"),
    ),
    "Pets": (
        Kind("dog bed", "Dogs", 75, "orthopaedic,corduroy,washable", "dog blanket", 0, 330, "The cover comes off and goes in the machine."),
        Kind("dog blanket", "Dogs", 25, "fleece,wool,waterproof", "", 0, 330, "Saves the sofa."),
        Kind("dog food", "Dogs", 38, "lamb,salmon,grain-free", "", 28, 0, "A named meat first, no sugar.", "2 kg,6 kg,12 kg"),
        Kind("dog lead", "Dogs", 21, "leather,rope,reflective", "", 0, 0, "Soft in the hand when he pulls."),
        Kind("cat food", "Cats", 26, "chicken,tuna,senior", "", 24, 0, "For cats who know what they want.", "400 g,2 kg,4 kg"),
        Kind("cat litter", "Cats", 15, "clumping,wood,unscented", "", 20, 0, "Light to carry and low in dust.", "5 l,10 l,20 l"),
        Kind("scratching post", "Cats", 49, "sisal,cardboard,wall-mounted", "cat toy", 0, 0, "Heavier than it looks, so that it stands.", "50 cm,80 cm,120 cm"),
        Kind("cat toy", "Cats", 8, "feather,catnip,felt", "", 90, 0, "Chased, caught, carried about."),
    ),
}
BRANDS = (
    "Fellgate", "Tarnside", "Haldon & Rook", "Wexmoor", "Bramblewick", "Ostrava Row", "Lindhaven", "Pellow",
    "Quernstone", "Sallow & Daughters", "Marrowby", "Thistledown Works", "Vennacher", "Kestrel Yard", "Ormsund", "Dunmallet",
    "Hobday", "Ilkmere", "Saltersgill", "Brightwater Mill", "Corvane", "Aldersey", "Nethertoft", "Mossgarth",
    "Ravelin", "Tolvanen", "Umberleigh", "Wrenfield", "Yarrowdale", "Zennick", "Penhallow", "Greystoke Lane",
    "Eskdaleside", "Fennimore", "Jorvik Stores", "Larkrise",
)
LINES = (
    "Alder", "Beck", "Carrick", "Dale", "Elm", "Fen", "Gannet", "Heath", "Iris", "Juniper", "Knoll", "Linden",
    "Marl", "Nimbus", "Orrin", "Pike", "Quay", "Rowan", "Skerry", "Tarn", "Umber", "Vale", "Wren", "Yew",
)
COLOURS = (
    "forest green", "slate grey", "off-white", "midnight blue", "terracotta", "mustard", "charcoal", "sage",
    "rust", "sky blue", "sand", "black", "plum", "olive", "blush", "copper",
)
# fmt: on
